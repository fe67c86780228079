"""Resampling and quantiles against scipy and against their definitions."""

import numpy as np
import pytest
from scipy import stats
from tables_of_runs import isoflop_table

from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.uncertainty.resampling import draw_noise, group_correlation, resample_weights, t_quantile

HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
BUDGETS = np.geomspace(1e18, 3e20, 6)


@pytest.mark.parametrize("level", [0.68, 0.9, 0.95])
@pytest.mark.parametrize("dof", [3, 4, 7, 30, 1000])
def test_the_t_quantile_is_students(level, dof):
    # The expansion's own error at 3 degrees of freedom.
    assert t_quantile(level, dof) == pytest.approx(stats.t.ppf(0.5 + level / 2, dof), rel=0.006)


def test_each_budget_keeps_its_number_of_runs():
    log_runs = make_log_runs(isoflop_table(HOFFMANN, BUDGETS, 7))
    weights = resample_weights(log_runs, 50, np.random.default_rng(0))
    for index in range(6):
        assert np.all(weights[:, log_runs.budget == index].sum(axis=1) == 7)


def test_runs_of_one_trunk_are_drawn_together():
    trunks = tuple(f"size {i % 7}" for i in range(42))
    log_runs = make_log_runs(isoflop_table(HOFFMANN, BUDGETS, 7, group=trunks))
    weights = resample_weights(log_runs, 50, np.random.default_rng(0))
    assert weights[:, :7] == pytest.approx(weights[:, 7:14])
    assert weights.sum(axis=1) == pytest.approx(np.full(50, 42.0))


def test_shared_noise_is_measured_back():
    rng = np.random.default_rng(0)
    trunks = tuple(f"size {i % 40}" for i in range(240))
    log_runs = make_log_runs(isoflop_table(HOFFMANN, BUDGETS, 40, group=trunks))
    noise = draw_noise(log_runs, 0.01, 0.5, 30, rng)
    assert noise.std() == pytest.approx(0.01, rel=0.05)
    measured = np.mean([group_correlation(row, log_runs.group) for row in noise])
    assert measured == pytest.approx(0.5, abs=0.05)


def test_trunks_widen_the_interval_when_their_errors_are_shared():
    shared = 0.01 * np.random.default_rng(4).standard_normal(7)
    table = isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.003)
    loss = table.loss * np.exp(np.tile(shared, 6))
    trunks = tuple(f"size {i % 7}" for i in range(42))

    def width(group):
        runs = isoflop_table(HOFFMANN, BUDGETS, 7, group=group)
        runs = type(runs)(**{**vars(runs), "loss": loss})
        laws = fit(runs, options=FitOptions(num_bootstraps=40, max_hidden_budgets=0))
        low, high = laws.predict(1e21, law="extended").num_params_estimate.statistical_interval
        return np.log(high / low)

    assert width(trunks) > 1.2 * width(tuple(map(str, range(42))))


def test_more_bootstraps_keep_the_point():
    few, many = (
        fit(isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.01), options=FitOptions(num_bootstraps=n)) for n in (40, 200)
    )
    assert few.predict(1e22, law="approach3").num_params == many.predict(1e22, law="approach3").num_params


def test_a_higher_level_is_wider():
    laws = fit(isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.01))
    for law in ("approach2", "approach3", "extended"):
        narrow, wide = (laws.predict(1e22, law=law, level=level).num_params_interval for level in (0.5, 0.95))
        assert wide[0] < narrow[0] < narrow[1] < wide[1]
