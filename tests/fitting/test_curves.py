"""Minima of IsoFLOP curves, Approach 1 and 2, and the envelope."""

import numpy as np
import pytest
from tables_of_runs import PORIAN, isoflop_table, make_table, read_published

from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.inputs.log_runs import lower_hull, make_log_runs
from flops_fit.fitting.methods.approach2 import curve_cells, fit_parabola, parabola_doubt
from flops_fit.fitting.methods.optimum_line import fit_envelope
from flops_fit.fitting.methods.registry import fit_methods

HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
BUDGETS = np.geomspace(1e18, 3e20, 6)
# Porian et al. 2024, table of the steps of their story on RefinedWeb.
PUBLISHED = dict(zip(PORIAN, (0.835, 0.706, 0.706, 0.602, 0.602, 0.571, 0.571), strict=True))


def test_a_parabola_is_recovered():
    log_n = np.linspace(15, 19, 7)
    assert fit_parabola(log_n, 0.2 * log_n**2 - 7 * log_n + 64) == pytest.approx([0.2, -7, 64], rel=1e-6)


@pytest.mark.parametrize(
    ("log_n", "coefficients", "code", "reason"),
    [
        (np.arange(5.0), (-1.0, 4.0, 0.0), "negative_curvature", "bends downwards"),
        (np.arange(5.0), (1.0, 2.0, 0.0), "optimum_at_edge", "beyond the smallest"),
        (np.arange(5.0), (1.0, -20.0, 0.0), "optimum_at_edge", "beyond the largest"),
        (np.arange(3.0), (1.0, -2.0, 0.0), "few_sizes", "only 3 sizes"),
        (np.arange(5.0), (1.0, -4.0, 4.5), "scattered_curve", "scatter"),
    ],
)
def test_a_parabola_without_a_usable_vertex_says_why(log_n, coefficients, code, reason):
    doubt = parabola_doubt(log_n, np.array(coefficients), 1.0)
    assert doubt.code == code
    assert reason in doubt.reason


def test_runs_of_one_size_are_averaged():
    table = make_table([1e6, 1e6, 2e6], [1e8, 1e8, 5e7], [3.0, 3.0, 2.9], compute_budget=[6e14] * 3)
    (cells,) = curve_cells(make_log_runs(table))
    assert cells.average.sum(axis=1) == pytest.approx([1, 1])
    assert np.exp(cells.log_loss) == pytest.approx([3.0, 2.9])


@pytest.mark.parametrize("condition", PORIAN)
def test_published_exponents_come_out_within_four_hundredths(condition):
    log_runs = make_log_runs(read_published("porian_rw_base.csv", condition))
    fitted = fit_methods(log_runs, FitOptions(), count=30).fitted
    assert fitted["approach2"].law.a.value == pytest.approx(PUBLISHED[condition], abs=0.04)


def test_the_lower_hull_is_below_every_run_and_convex():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, 300)
    y = np.exp(-0.3 * x) + rng.exponential(0.2, 300)
    corners = lower_hull(x, y)
    inside = x <= x[corners[-1]]
    assert np.all(y[inside] >= np.interp(x[inside], x[corners], y[corners]) - 1e-12)
    slopes = np.diff(y[corners]) / np.diff(x[corners])
    assert np.all(np.diff(slopes) > 0)


def test_approach1_finds_the_exponent_of_clean_runs():
    # The grid of sizes is 1.4 apart: an exponent from the best run of each budget is good to a tenth.
    law = fit_methods(make_log_runs(isoflop_table(HOFFMANN, BUDGETS, 25, reach=64)), FitOptions(), count=30)
    assert law.fitted["approach1"].law.a.value == pytest.approx(0.4516, abs=0.1)


def test_the_envelope_is_recovered_from_exact_minima():
    log_c = np.log(np.geomspace(1e18, 1e21, 7))
    loss = 1.7 + 1e3 * np.exp(-0.16 * log_c)
    ahead = np.log(1e23)
    found = fit_envelope(log_c, loss[None]).log_loss(np.array([ahead]))[0, 0]
    # The exponent is taken from a grid 5 % apart.
    assert np.exp(found) == pytest.approx(1.7 + 1e3 * np.exp(-0.16 * ahead), rel=0.01)


def test_a_curve_has_its_planned_budget_to_the_last_digit():
    budgets = [1.6e10, 3e10, 7.1e10, 1.1e11]
    laws = fit(isoflop_table(HOFFMANN, budgets, 7, noise=0.001), options=FitOptions(num_bootstraps=20))
    assert [c.compute_budget for c in laws.isoflop_curves] == budgets
    assert {r.compute_budget for r in laws.backtest} <= set(budgets)
