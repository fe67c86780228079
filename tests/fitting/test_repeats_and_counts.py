"""Repeated data and other ways of counting parameters."""

from dataclasses import replace

import numpy as np
import pytest
from tables_of_runs import isoflop_table, make_table

from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.methods.data_constrained import effective_tokens, fit_data_constrained

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
