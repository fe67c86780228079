"""Runs as they come: integers, duplicates, several learning rates, rough budgets, tiny and huge tables."""

from dataclasses import replace

import numpy as np
import pytest
from tables_of_runs import isoflop_table, make_table

from flops_fit.errors import FitError
from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.flops_function import constant_flops, measure_flops_function
from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.outliers import find_outliers
from flops_fit.records import RunTable

HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
BUDGETS = np.geomspace(1e18, 3e20, 6)
FAST = FitOptions(num_bootstraps=40)


def with_rows(table, loss=None, **columns):
    return replace(table, loss=table.loss if loss is None else loss, **columns)


def codes(laws):
    return {finding.code for finding in laws.findings}


def test_integer_columns_do_not_overflow():
    n = np.array([10**9, 2 * 10**9, 4 * 10**9] * 3, dtype=np.int64)
    d = np.repeat(np.array([2, 4, 8], dtype=np.int64) * 10**10, 3)
    table = make_table(n, d, HOFFMANN.loss(n, d))
    whole = RunTable(**{**vars(table), "num_params": n, "num_tokens": d})
    assert make_log_runs(whole).log_n == pytest.approx(np.log(n.astype(float)))
    assert fit(whole, options=FAST).predict(1e22).num_params > 0


def test_duplicate_cells_are_averaged_and_change_nothing_without_noise():
    table = isoflop_table(HOFFMANN, BUDGETS, 7)
    twice = make_table(
        *(np.tile(c, 2) for c in (table.num_params, table.num_tokens, table.loss)),
        compute=np.tile(table.compute, 2),
        compute_budget=np.tile(table.compute_budget, 2),
    )
    once, doubled = (fit(t, options=FAST).predict(1e22, law="approach2") for t in (table, twice))
    assert doubled.num_params == pytest.approx(once.num_params, rel=1e-9)


@pytest.mark.parametrize(("rule", "kept"), [("best", 42), ("all", 126)])
def test_of_several_learning_rates_the_best_or_all_enter(rule, kept):
    table = isoflop_table(HOFFMANN, BUDGETS, 7)
    penalty = np.repeat([0.0, 0.01, 0.05], 42)
    sweep = make_table(
        *(np.tile(c, 3) for c in (table.num_params, table.num_tokens)),
        np.tile(table.loss, 3) + penalty,
        compute_budget=np.tile(table.compute_budget, 3),
        learning_rate=np.repeat([1e-3, 3e-3, 1e-2], 42),
    )
    laws = fit(sweep, options=replace(FAST, learning_rates=rule))
    assert len(laws.runs) == kept
    if rule == "best":
        assert laws.predict(1e22, law="approach3").num_params == pytest.approx(HOFFMANN.n_opt(1e22), rel=1e-4)
        assert all(excluded.code == "other_learning_rate" for excluded in laws.runs_excluded)


def test_budgets_that_differ_by_a_few_percent_use_what_each_run_spent():
    rng = np.random.default_rng(0)
    budget = np.repeat(BUDGETS, 7)
    compute = budget * np.exp(rng.uniform(-0.06, 0.06, 42))
    n = HOFFMANN.n_opt(budget) * np.tile(np.geomspace(0.25, 4, 7), 6)
    d = compute / (6 * n)
    laws = fit(make_table(n, d, HOFFMANN.loss(n, d), compute=compute, compute_budget=budget), options=FAST)
    assert laws.predict(1e22, law="approach3").num_params == pytest.approx(HOFFMANN.n_opt(1e22), rel=1e-4)
    assert "unequal_budget_flops" in codes(laws)


def test_losses_below_one_are_fitted_as_well():
    small = ChinchillaLaw(E=0.2, A=40.0, B=41.0, alpha=0.34, beta=0.28)
    laws = fit(isoflop_table(small, BUDGETS, 7, noise=0.001), options=FAST)
    assert laws.runs.loss.min() < 1
    for name in ("approach2", "approach3", "extended"):
        assert laws.predict(3e21, law=name).num_params == pytest.approx(small.n_opt(3e21), rel=0.2)


def test_three_sizes_to_a_budget_leave_the_joint_laws():
    laws = fit(isoflop_table(HOFFMANN, BUDGETS, 3, noise=0.001), options=FAST)
    assert laws.laws["approach2"].outcome == "refused"
    assert "only 3 sizes" in laws.isoflop_curves[0].reason
    assert laws.predict(3e21, law="approach3").num_params == pytest.approx(HOFFMANN.n_opt(3e21), rel=0.2)


def test_a_lone_bad_run_is_left_out_listed_and_shown_beside():
    table = isoflop_table(HOFFMANN, BUDGETS, 9, noise=0.002)
    loss = table.loss.copy()
    loss[20] *= 1.3
    laws = fit(with_rows(table, loss), options=FAST)
    assert [e.source for e in laws.runs_excluded] == [table.source[20]]
    assert "outliers" in codes(laws)
    assert laws.laws_without_exclusions["approach3"].num_runs == len(table)
    kept = fit(with_rows(table, loss), options=replace(FAST, exclude_outliers=False))
    assert len(kept.runs) == len(table)


@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_clean_runs_are_no_outliers(noise):
    marked = [
        find_outliers(make_log_runs(isoflop_table(HOFFMANN, BUDGETS, 9, reach=8, noise=noise, seed=s)), FAST).sum()
        for s in range(20)
    ]
    assert sum(marked) == 0


def test_runs_read_off_before_their_schedule_ended_are_refused():
    table = isoflop_table(HOFFMANN, BUDGETS, 7)
    schedule = table.num_tokens.copy()
    schedule[:7] *= 3
    laws = fit(with_rows(table, schedule_tokens=schedule), options=FAST)
    assert len(laws.runs) == 35
    assert {e.code for e in laws.runs_excluded} == {"unfinished_schedule"}


@pytest.mark.slow
def test_a_million_rows_are_condensed_and_fitted():
    rng = np.random.default_rng(0)
    budget = rng.choice(BUDGETS, 10**6)
    n = HOFFMANN.n_opt(budget) * np.exp(rng.uniform(-1.4, 1.4, 10**6))
    d = budget / (6 * n)
    table = RunTable(
        compute_budget=budget,
        compute=budget,
        num_params=n,
        num_tokens=d,
        loss=HOFFMANN.loss(n, d) * np.exp(0.01 * rng.standard_normal(10**6)),
        source=("row",) * 10**6,
        condition=("",) * 10**6,
        group=tuple(map(str, range(10**6))),
        seed=np.zeros(10**6, dtype=np.int64),
    )
    laws = fit(table, options=FAST)
    assert "condensed" in codes(laws)
    for name in ("approach2", "approach3", "extended"):
        assert laws.predict(3e21, law=name).num_params == pytest.approx(HOFFMANN.n_opt(3e21), rel=0.1)


def test_very_many_budgets_are_merged_where_rows_are_condensed():
    rng = np.random.default_rng(0)
    n = np.exp(rng.uniform(np.log(1e6), np.log(1e10), 20_000))
    d = n * np.exp(rng.uniform(0, 6, len(n)))
    laws = fit(make_table(n, d, HOFFMANN.loss(n, d) * np.exp(0.01 * rng.standard_normal(len(n)))), options=FAST)
    assert len(laws.isoflop_curves) <= 100
    assert laws.predict(1e22).num_params == pytest.approx(HOFFMANN.n_opt(1e22), rel=0.1)


def test_a_laptops_sweep_on_its_own_flops_finds_its_own_optimum():
    # N from 2k to 200k parameters, attention and head beside 6N: k(N) falls from 12 to 6.
    log_n = np.linspace(np.log(1e3), np.log(1e6), 30)
    ratio = np.log(6 + 6 / (1 + np.exp(log_n - np.log(2e4))))
    flops = replace(constant_flops(), log_n=log_n, log_ratio=ratio)
    tiny = ChinchillaLaw(E=1.2, A=30.0, B=300.0, alpha=0.4, beta=0.38, flops=flops)
    laws = fit(isoflop_table(tiny, np.geomspace(1e9, 1e12, 5), 7, noise=0.002), options=FAST)
    for name in ("approach2", "approach3", "extended"):
        assert laws.predict(3e12, law=name).num_params == pytest.approx(tiny.n_opt(3e12), rel=0.25)
    prediction = laws.predict(1e13)
    assert prediction.num_params_interval[0] < tiny.n_opt(1e13) < prediction.num_params_interval[1]
    assert "flops_not_6nd" in codes(laws)
    spent = laws.flops.log_flops_per_token(np.log([prediction.num_params])) + np.log(prediction.num_tokens)
    assert spent[0] == pytest.approx(np.log(1e13), abs=1e-9)


def test_flops_between_and_beyond_the_sizes_grow_with_n():
    n = np.geomspace(1e4, 1e6, 7)
    measured = measure_flops_function((6 * n + 4e5) * 1e8, n, np.full(7, 1e8))
    log_n = np.log(np.geomspace(1e2, 1e9, 400))
    per_token = measured.log_flops_per_token(log_n)
    assert np.all(np.diff(per_token) > 0)
    inside = (log_n >= np.log(1e4)) & (log_n <= np.log(1e6))
    assert per_token[inside] == pytest.approx(np.log(6 * np.exp(log_n[inside]) + 4e5), abs=0.05)
    # Ten times beyond the largest size the true ratio to 6N is 1.007.
    assert measured.log_flops_per_token(np.array([np.log(1e7)]))[0] == pytest.approx(np.log(6e7 + 4e5), abs=0.05)


def test_too_few_usable_runs_are_an_error_that_counts_them():
    table = isoflop_table(HOFFMANN, [1e18], 5)
    with pytest.raises(FitError, match="got 1 usable of 5"):
        fit(with_rows(table, epochs=np.array([1.0, 9.0, 9.0, 9.0, 9.0])))
