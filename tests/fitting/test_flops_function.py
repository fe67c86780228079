"""FLOPs per token as a smooth function of N: exact counts are followed, scatter is not."""

from dataclasses import replace

import numpy as np
import pytest
from tables_of_runs import chinchilla_isoflop

from flops_fit.fitting import FitOptions
from flops_fit.fitting.flops_function import measure_flops_function
from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.methods.approach3 import fit_chinchilla


def transformer_flops(num_params):
    """Per token, of GPTs of 50k tokens, 1024 positions and width 64 L with an untied head: 5 to 6.3 N, bending."""
    width = np.geomspace(16, 20_000, 20_000)
    matrices, table = 12 * width**3 / 64, 50_257 * width
    flops = 6 * (matrices + table) + 12 * width**2 / 64 * 1024
    return np.exp(np.interp(np.log(num_params), np.log(matrices + 2 * table), np.log(flops)))


@pytest.mark.parametrize("sizes", [5, 6, 8, 10])
@pytest.mark.parametrize("smallest", [3e6, 1e7])
def test_exact_counts_of_few_sizes_are_followed(sizes, smallest):
    n = np.tile(np.geomspace(smallest, 1000 * smallest, sizes), 5)
    per_token = transformer_flops(n)
    assert np.ptp(np.log(per_token / n)) > 0.35
    d = np.repeat(np.geomspace(1e8, 1e10, 5), sizes)
    measured = measure_flops_function(per_token * d, n, d)
    assert measured.log_flops_per_token(np.log(n)) == pytest.approx(np.log(per_token), abs=0.005)


def test_the_slope_is_that_of_the_curve_and_has_no_kinks():
    n = np.geomspace(1e7, 1e10, 12)
    measured = measure_flops_function(transformer_flops(n) * 1e9, n, np.full(12, 1e9))
    x = np.linspace(np.log(1e6), np.log(1e11), 4001)
    numeric = np.gradient(measured.log_flops_per_token(x), x)
    assert measured.slope(x)[1:-1] == pytest.approx(numeric[1:-1], abs=1e-3)
    assert np.abs(np.diff(measured.slope(x))).max() < 2e-3


@pytest.mark.parametrize("repeats", [1, 6])
def test_digitising_scatter_is_no_curve(repeats):
    rng = np.random.default_rng(0)
    n = np.tile(np.geomspace(5e7, 1.6e10, 60 // repeats), repeats)
    measured = measure_flops_function(6 * n * 1e9 * np.exp(0.05 * rng.standard_normal(len(n))), n, np.full(len(n), 1e9))
    assert measured.is_constant
    assert np.exp(measured.log_ratio[0]) == pytest.approx(6, rel=0.02)


def test_on_chinchillas_nominal_budgets_a_follows_from_alpha_and_beta():
    # The budgets as C, so that C/(ND) is 4.8 to 7.5: knots through that gave a = .95.
    table = chinchilla_isoflop()
    log_runs, rng = make_log_runs(replace(table, compute=table.compute_budget)), np.random.default_rng(0)
    law = fit_chinchilla("approach3", log_runs, FitOptions(), rng, count=20, windowed=False).law
    alpha, beta = (law.parameters[name].value for name in ("alpha", "beta"))
    assert law.a.value == pytest.approx(beta / (alpha + beta), abs=0.01)
    assert law.a.value + law.b.value == pytest.approx(1.0, abs=0.01)


def test_cost_grows_with_n_where_a_fixed_part_dominates():
    n = np.tile(np.geomspace(1e3, 1e6, 6), 3)
    measured = measure_flops_function((6 * n + 1e6) * 1e8, n, np.full(18, 1e8))
    assert np.all(np.diff(measured.log_flops_per_token(np.linspace(0, 30, 3000))) > 0)
