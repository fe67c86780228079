"""Repeated data and other ways of counting parameters."""

from dataclasses import replace

import numpy as np
import pytest
from tables_of_runs import isoflop_table, make_table

from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.diagnostics.runs import diagnose_runs
from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.inputs.repeats import effective_tokens
from flops_fit.fitting.methods.data_constrained import fit_data_constrained

HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
FAST = FitOptions(num_bootstraps=40)


def repeated_runs(constant=15.0, noise=0.0):
    rng = np.random.default_rng(0)
    n = np.tile(np.geomspace(1e7, 1e9, 6), 20)
    unique = np.repeat(np.tile(np.geomspace(1e8, 1e10, 4), 5), 6)
    epochs = np.repeat([1.0, 2.0, 4.0, 10.0, 30.0], 24)
    d = unique * epochs
    worth = effective_tokens(d, unique, constant)
    loss = HOFFMANN.loss(n, worth) * np.exp(noise * rng.standard_normal(120))
    return make_table(n, d, loss, unique_tokens=unique, epochs=epochs)


def test_fresh_tokens_are_worth_themselves_and_repeats_ever_less():
    unique = np.full(4, 1e9)
    worth = effective_tokens(np.array([5e8, 1e9, 4e9, 1e13]), unique, 15.0)
    assert worth[:2] == pytest.approx([5e8, 1e9])
    # 4 epochs lose under a tenth (Muennighoff et al. 2023); endless ones are worth 1 + R.
    assert worth[2] == pytest.approx(4e9, rel=0.1)
    assert worth[3] == pytest.approx(16e9, rel=1e-6)


def test_the_worth_of_repeats_is_recovered():
    found = fit_data_constrained(repeated_runs(noise=0.003), FAST).law.parameters["R"]
    # The constants of the grid are 27 % apart.
    assert found.value == pytest.approx(15.0, rel=0.3)
    assert found.low <= 15.0 * 1.27
    assert found.high >= 15.0 / 1.27


def test_one_call_fits_the_plain_laws_to_few_epochs_and_this_law_to_all():
    laws = fit(repeated_runs(noise=0.002), options=FAST)
    assert laws.laws["data_constrained"].num_runs == 120
    assert len(laws.runs) == 72
    assert laws.predict(1e20, law="data_constrained").num_params == pytest.approx(HOFFMANN.n_opt(1e20), rel=0.3)


def test_every_law_counts_effective_tokens():
    table = repeated_runs()
    log_runs = make_log_runs(table)
    assert log_runs.log_d == pytest.approx(np.log(effective_tokens(table.num_tokens, table.unique_tokens, 15.4)))
    assert log_runs.flops.is_six
    # Epochs alone say the same: U = D / epochs.
    assert make_log_runs(replace(table, unique_tokens=None)).log_d == pytest.approx(log_runs.log_d)
    fresh = replace(table, unique_tokens=None, epochs=np.full(120, 0.5))
    assert make_log_runs(fresh).log_d == pytest.approx(np.log(table.num_tokens))


def isoflop_of_repeats(constant):
    """Budgets whose largest D is seen once at the smallest, four times at the largest."""
    table = isoflop_table(HOFFMANN, np.geomspace(1e18, 3e20, 6), 7, reach=6)
    unique = np.repeat(table.num_tokens.reshape(6, 7).max(axis=1) / np.linspace(1, 4, 6), 7)
    worth = effective_tokens(table.num_tokens, unique, constant)
    noise = np.exp(0.001 * np.random.default_rng(0).standard_normal(42))
    return replace(table, loss=HOFFMANN.loss(table.num_params, worth) * noise, unique_tokens=unique)


def test_the_optimum_of_fresh_data_is_found_from_repeats():
    table = isoflop_of_repeats(constant=4.0)
    known, unknown = (fit(t, options=FAST) for t in (table, replace(table, unique_tokens=None)))
    for law, blind in (("extended", 0.07), ("approach3", 0.03), ("approach2", 0.03)):
        off = [float(np.log(x.predict(3e21, law=law).num_params / HOFFMANN.n_opt(3e21))) for x in (known, unknown)]
        assert abs(off[0]) < 0.03
        assert off[1] > blind
    low, high = known.predict(3e21).num_params_interval
    assert low < HOFFMANN.n_opt(3e21) < high
    # The minima that backtests score against are those of fresh data too.
    top = [float(np.log(x.isoflop_curves[-1].n_opt.value / HOFFMANN.n_opt(3e20))) for x in (known, unknown)]
    assert abs(top[0]) < 0.02 < 0.03 < top[1]


def test_unclear_epochs_are_a_warning():
    table = isoflop_of_repeats(constant=15.4)
    epochs = table.num_tokens / table.unique_tokens

    def found(**columns):
        runs = replace(table, **columns)
        return {f.code: f for f in diagnose_runs(runs, make_log_runs(runs))}

    assert "epochs_unclear" not in found(epochs=np.maximum(epochs, 1.0))
    assert "epochs_unclear" not in found(epochs=epochs, unique_tokens=None)
    assert "D over the stated epochs" in found(epochs=epochs, unique_tokens=None)["repeated_data"].message
    missing = np.where(np.arange(42) == 4, np.nan, epochs)
    assert "1 run (line 6 first)" in found(epochs=missing, unique_tokens=None)["epochs_unclear"].message
    assert "which counts" in found(epochs=np.full(42, 3.0))["epochs_unclear"].message


def test_more_than_four_epochs_are_seen_in_unique_tokens_too():
    table = isoflop_table(HOFFMANN, np.geomspace(1e18, 3e20, 6), 7, noise=0.001)
    laws = fit(replace(table, unique_tokens=table.num_tokens / np.where(np.arange(42) < 3, 6.0, 1.5)), options=FAST)
    assert len(laws.runs) == 39
    assert "epochs_above_four" in {f.code for f in laws.findings}


def test_kaplans_count_gives_kaplans_larger_exponent():
    # 30 M embedding parameters on models of 30 M to 3 B: left out, the exponent rises (Porian et al. 2024).
    table = isoflop_table(HOFFMANN, np.geomspace(1e17, 1e20, 6), 9, noise=0.001)
    bare = replace(table, num_params_non_embedding=0.98 * table.num_params - 0.25 * table.num_params.min())
    rows = {c.name: c for c in fit(bare, options=FAST).parameter_counts}
    assert set(rows) == {"total", "non_embedding", "kaplan"}
    assert rows["kaplan"].a.value > rows["total"].a.value + 0.01
    assert rows["kaplan"].compute_at_top < rows["total"].compute_at_top


def test_without_a_second_count_there_is_one_row():
    laws = fit(isoflop_table(HOFFMANN, np.geomspace(1e17, 1e20, 5), 7), options=FAST)
    assert [c.name for c in laws.parameter_counts] == ["total"]
