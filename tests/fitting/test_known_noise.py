"""Standard errors of the loss: they weight the runs, by their ratios only, and bad ones are refused."""

from dataclasses import replace

import numpy as np
import pytest
from tables_of_runs import isoflop_table

from flops_fit.errors import InputError
from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.inputs.log_runs import make_log_runs, take_log_runs
from flops_fit.fitting.methods.approach3 import fit_chinchilla

HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
BUDGETS = np.geomspace(1e18, 3e20, 6)


@pytest.fixture(scope="module")
def table():
    return isoflop_table(HOFFMANN, BUDGETS, 7)


def weights(table, std_error):
    return make_log_runs(replace(table, loss_std_error=np.asarray(std_error, dtype=np.float64))).weight


def test_precise_runs_count_more_and_tiny_errors_do_not_dominate(table):
    noisy = np.where(np.arange(42) < 21, 0.013, 0.003) * table.loss
    found = weights(table, noisy)
    assert found.sum() == pytest.approx(42)
    # (.013^2 + .002^2) / (.003^2 + .002^2), the floor being the noise between seeds.
    assert found[-1] / found[0] == pytest.approx(173 / 13, rel=1e-6)
    assert weights(table, np.where(np.arange(42) == 0, 1e-9, 1e-4)) == pytest.approx(np.ones(42), rel=0.01)


def test_an_unknown_error_is_the_median_of_the_others(table):
    std_error = 0.01 * table.loss
    std_error[::2] = np.nan
    assert weights(table, std_error) == pytest.approx(np.ones(42))
    assert weights(table, np.full(42, np.nan)) == pytest.approx(np.ones(42))


def test_the_scatter_between_seeds_is_the_floor(table):
    rng = np.random.default_rng(0)
    twice = {name: np.tile(column, 2) for name, column in vars(table).items() if isinstance(column, np.ndarray)}
    text = {name: getattr(table, name) * 2 for name in ("source", "condition")}
    seeds = replace(table, **twice, **text, group=tuple(map(str, range(84))))
    loss = seeds.loss * np.exp(0.02 * rng.standard_normal(84))
    found = weights(replace(seeds, loss=loss), np.where(np.arange(84) % 42 < 21, 0.01, 1e-6) * loss)
    # Between seeds .02: a standard error of .01 more is 1.25 times the variance.
    assert found.max() / found.min() == pytest.approx(1.25, rel=0.1)


def test_some_of_the_runs_still_weigh_as_many_as_they_are(table):
    log_runs = make_log_runs(replace(table, loss_std_error=np.where(np.arange(42) < 21, 0.05, 0.01)))
    assert take_log_runs(log_runs, np.arange(42) < 28).weight.sum() == pytest.approx(28)


@pytest.mark.parametrize("bad", [0.0, -0.01, np.inf])
def test_a_bad_standard_error_is_refused_with_its_line_and_value(table, bad):
    with pytest.raises(InputError, match=rf"line 5: loss_std_error={bad:g}, expected a finite number above 0"):
        weights(table, np.where(np.arange(42) == 3, bad, 0.01))


def test_weights_find_the_optimum_where_the_lowest_budgets_are_noisy():
    sd = np.repeat(np.geomspace(0.03, 0.001, 6), 7)
    errors = []
    for seed in range(6):
        table = isoflop_table(HOFFMANN, BUDGETS, 7, reach=6)
        loss = table.loss * np.exp(sd * np.random.default_rng(seed).standard_normal(42))
        for std_error in (None, sd * loss):
            log_runs = make_log_runs(replace(table, loss=loss, loss_std_error=std_error))
            options, rng = FitOptions(), np.random.default_rng(0)
            method = fit_chinchilla("approach3", log_runs, options, rng, count=20, windowed=False)
            errors.append(method.optimum(np.log([1e23]), 0.9)[0].value[0] - np.log(HOFFMANN.n_opt(1e23)))
    blind, weighted = np.sqrt(np.mean(np.square(np.reshape(errors, (6, 2))), axis=0))
    assert weighted < 0.75 * blind


def test_noisy_runs_are_no_outliers_where_their_noise_is_known():
    table = isoflop_table(HOFFMANN, BUDGETS, 9, noise=0.002)
    sd = np.where(np.arange(54) == 20, 0.05, 0.002)
    loss = table.loss * np.where(np.arange(54) == 20, 1.1, 1.0)
    options = FitOptions(num_bootstraps=20, max_hidden_budgets=0)
    assert len(fit(replace(table, loss=loss), options=options).runs) == 53
    assert len(fit(replace(table, loss=loss, loss_std_error=sd * loss), options=options).runs) == 54
