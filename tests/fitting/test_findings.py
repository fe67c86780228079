"""Every finding appears when it should, and a clean sweep has none but its extrapolation."""

from dataclasses import replace

import numpy as np
import pytest
from tables_of_runs import isoflop_table, make_table

from flops_fit.errors import FitError
from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.backtest.form_error import form_error
from flops_fit.fitting.flops_function import constant_flops

HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
BUDGETS = np.geomspace(1e18, 3e20, 6)
FAST = FitOptions(num_bootstraps=60)


def findings(table, **options):
    return {f.code: f for f in fit(table, options=replace(FAST, **options)).findings}


def test_clean_sweeps_have_hardly_any_warnings():
    # A backtest of a 90 % interval misses in some clean sweeps: of 8, at most 2 may say so and nothing else.
    warned = []
    for seed in range(8):
        found = findings(isoflop_table(HOFFMANN, BUDGETS, 9, noise=0.002, seed=seed))
        warned += [f.code for f in found.values() if f.level != "info"]
    assert set(warned) <= {"backtest_missed"}
    assert len(warned) <= 2


def test_every_finding_says_what_to_do():
    for finding in findings(isoflop_table(HOFFMANN, BUDGETS[:3], 5, noise=0.03, reach=2)).values():
        assert finding.message.endswith(".")
        assert len(finding.advice) > 20


@pytest.mark.parametrize(("count", "level"), [(2, "error"), (4, "warning")])
def test_few_budgets(count, level):
    assert findings(isoflop_table(HOFFMANN, BUDGETS[:count], 9, noise=0.001))["few_budgets"].level == level


def test_nothing_is_predicted_from_two_budgets():
    laws = fit(isoflop_table(HOFFMANN, BUDGETS[:2], 9, noise=0.001), options=FAST)
    assert laws.recommended is None
    assert all(law.outcome == "refused" and law.a is None for law in laws.laws.values())
    with pytest.raises(FitError, match="no prediction"):
        laws.predict(1e22)


def test_optimum_at_edge():
    assert "optimum_at_edge" in findings(isoflop_table(HOFFMANN, BUDGETS, 7, centre=8.0, noise=0.001))


def test_curves_with_their_minimum_on_either_side_are_both_listed():
    table = isoflop_table(HOFFMANN, BUDGETS, 16, reach=8)
    is_small = table.num_params < 0.9 * HOFFMANN.n_opt(table.compute_budget)
    message = findings(table.take(is_small == (table.compute_budget > 2e19)))["optimum_at_edge"].message
    assert "beyond the smallest size" in message
    assert "beyond the largest size" in message


def test_negative_curvature():
    table = isoflop_table(HOFFMANN, BUDGETS, 7)
    rank = np.tile(np.linspace(-1, 1, 7), 6)
    assert "negative_curvature" in findings(replace(table, loss=table.loss - 0.4 * rank**2))


@pytest.mark.parametrize(("column", "code"), [("num_params", "constant_n"), ("num_tokens", "constant_d")])
def test_constant_columns(column, code):
    table = isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.001)
    fixed = replace(table, **{column: np.full(len(table), 1e9)})
    fixed = make_table(fixed.num_params, fixed.num_tokens, HOFFMANN.loss(fixed.num_params, fixed.num_tokens))
    laws = fit(fixed, options=FAST)
    assert {f.code: f.level for f in laws.findings}[code] == "error"
    assert laws.laws["approach3"].outcome == "refused"
    assert laws.laws["extended"].outcome == "refused"


def test_exponents_not_separable():
    # D/N is 20 in every run: the two terms fall together.
    n = np.geomspace(1e7, 1e10, 24)
    table = make_table(n, 20 * n, HOFFMANN.loss(n, 20 * n) * np.exp(0.003 * np.sin(np.arange(24) * 7.0)))
    assert "exponents_not_separable" in findings(table)


def test_flat_valley():
    assert "flat_valley" in findings(isoflop_table(HOFFMANN, BUDGETS, 7, reach=3, noise=0.02))


def test_parameter_at_bound():
    # A law that falls as a power of D alone, to no floor: E and A tend to zero.
    pure = ChinchillaLaw(E=1e-9, A=1e-9, B=410.7, alpha=0.34, beta=0.28)
    n = np.tile(np.geomspace(1e8, 1e10, 7), 6)
    d = np.repeat(np.geomspace(1e9, 1e11, 6), 7)
    found = findings(make_table(n, d, pure.loss(n, d) * np.exp(0.002 * np.cos(np.arange(42) * 5.0))))
    assert "parameter_at_bound" in found


def test_constant_learning_rate():
    table = isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.001)
    assert "constant_learning_rate" in findings(replace(table, learning_rate=np.full(42, 3e-4)))
    scaled = replace(table, learning_rate=3e-4 * (table.num_params / 1e8) ** -0.3)
    assert "constant_learning_rate" not in findings(scaled)


def test_repeated_data_above_one_and_above_four_epochs():
    table = isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.001)
    epochs = np.where(np.arange(42) < 3, 6.0, 1.5)
    laws = fit(replace(table, epochs=epochs), options=FAST)
    found = {f.code for f in laws.findings}
    assert {"repeated_data", "epochs_above_four"} <= found
    assert len(laws.runs) == 39


def test_flops_not_6nd():
    table = isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.001)
    counted = replace(table, compute=1.3 * table.compute, compute_budget=1.3 * table.compute_budget)
    assert "1.3" not in findings(table)
    assert "7.8" in findings(counted)["flops_not_6nd"].message


def test_methods_disagree_where_no_law_holds():
    table = isoflop_table(HOFFMANN, BUDGETS, 9, reach=16, noise=0.001)
    bent = table.loss * (1 + 0.05 * np.maximum(np.log(table.num_params / 3e8), 0) ** 2)
    assert "methods_disagree" in findings(replace(table, loss=bent))


@pytest.fixture(scope="module")
def clean():
    return fit(isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.002), options=FAST)


def test_extrapolation_beyond_the_backtests_is_reported_with_the_prediction(clean):
    assert clean.predict(3.1e20).findings == ()
    (near,) = clean.predict(1e22).findings
    (far,) = clean.predict(1e25).findings
    assert (near.code, near.level, far.level) == ("extrapolation", "info", "warning")


@pytest.mark.parametrize(("compute", "code"), [(1e15, "below_sweep"), (9e17, "below_sweep"), (1e26, "extrapolation")])
def test_a_prediction_outside_the_sweep_leads_with_that(clean, compute, code):
    trust = clean.predict(compute).trust
    assert trust.level != "ok"
    assert code in {reason.code for reason in trust.reasons}
    if trust.level == "care":
        assert trust.reasons[0].code == code
        assert trust.headline.startswith(f"Use with care: {trust.reasons[0].message}")


def test_a_prediction_below_the_sweep_states_its_factor_and_widens_with_it(clean):
    finding = clean.predict(1e15).findings[0]
    assert finding.level == "warning"
    assert "1000x below the smallest fitted budget" in finding.message
    # Without backtests the stated floor alone is the form part: proportional to .3 + log10 of the distance.
    floor = fit(isoflop_table(HOFFMANN, BUDGETS[:4], 7, noise=0.001), options=replace(FAST, max_hidden_budgets=0))
    parts = [floor.predict(c, law="windowed").num_params_estimate.form_interval for c in (1e18, 1e16, 1e14)]
    widths = np.array([np.log(high / low) for low, high in parts])
    assert widths / widths[0] == pytest.approx([1.0, 2.3 / 0.3, 4.3 / 0.3], rel=1e-6)


def test_the_whole_sweep_is_within_range_to_the_last_digit():
    budgets = [1.1e18, 3.3e18, 1.23e19, 4.7e19, 1.7e20, 6.1e20]
    laws = fit(isoflop_table(HOFFMANN, budgets, 7, noise=0.002), options=FAST)
    assert (laws.min_compute, laws.max_compute) == (budgets[0], budgets[-1])
    for compute in budgets:
        assert not {f.code for f in laws.predict(compute).findings} & {"below_sweep", "extrapolation"}


def test_the_tested_factor_is_that_of_the_budgets():
    laws = fit(isoflop_table(HOFFMANN, [1e18, 3e18, 1e19, 3e19, 1e20, 3e20], 7, noise=0.002), options=FAST)
    assert laws.tested_factor == 30.0
    assert laws.is_tested(9e21)
    assert not laws.is_tested(9.001e21)


def test_no_backtests_with_three_budgets_and_published_sweeps_instead():
    laws = fit(isoflop_table(HOFFMANN, BUDGETS[:3], 7, noise=0.001), options=FAST)
    assert "no_backtest" in {f.code for f in laws.findings}
    assert laws.recommendation.n_form_sd == pytest.approx(form_error("extended", [], FAST).n_sd)
    part = laws.predict(1e20).num_params_estimate.form_interval
    assert part[1] / part[0] > 1.2


@pytest.mark.parametrize(("top", "reported"), [(2e19, True), (4e19, False)])
def test_budgets_over_less_than_a_decade_and_a_half(top, reported):
    table = isoflop_table(HOFFMANN, np.geomspace(1e18, top, 5), 7, noise=0.002)
    assert ("short_span" in findings(table)) == reported


def test_an_asymptote_at_its_bound_is_reported_of_the_recommended_law():
    # Losses that fall as a pure power law: no E is low enough.
    pure = ChinchillaLaw(E=1e-9, A=50.0, B=50.0, alpha=0.2, beta=0.2)
    straight = {"interaction_prior_sd": 0.01, "exponent_drift_sd": 1e-4, "short_run_prior_sd": 1e-4}
    table = isoflop_table(pure, BUDGETS, 7, noise=0.0005)
    found = findings(table, law="extended", **straight)["parameter_at_bound"]
    assert found.level == "warning"
    assert "Extended law: at the bound of its range: E" in found.message


def test_a_score_in_place_of_a_loss_is_refused_trust():
    table = isoflop_table(HOFFMANN, BUDGETS, 9, noise=0.002)
    assert findings(replace(table, loss=1 - table.loss / 10))["loss_not_falling"].level == "error"


@pytest.mark.parametrize(
    "scales",
    [{"num_params": 1e-6}, {"num_params": 1e-6, "num_tokens": 1e-9}, {"compute": 1 / 8.64e19}],
    ids=["millions of parameters", "and billions of tokens", "petaflop/s-days"],
)
def test_units_that_no_model_has(scales):
    table = isoflop_table(HOFFMANN, BUDGETS, 9, noise=0.002)
    slipped = replace(table, **{name: getattr(table, name) * scale for name, scale in scales.items()})
    assert findings(slipped)["implausible_units"].level == "error"


def test_columns_in_logarithms():
    table = isoflop_table(HOFFMANN, BUDGETS, 9, noise=0.002)
    names = ("compute_budget", "compute", "num_params", "num_tokens")
    logs = {name: np.log10(getattr(table, name)) for name in names}
    assert findings(replace(table, **logs))["implausible_units"].level == "error"


def test_weights_used_many_times_per_token_are_no_slip_of_units():
    # A ResNet-50 spends about 950 FLOPs per parameter and image, forward and backward.
    law = replace(HOFFMANN, flops=constant_flops(950.0))
    assert "implausible_units" not in findings(isoflop_table(law, BUDGETS, 9, noise=0.002))


def test_samples_may_cost_any_number_of_flops():
    law = replace(HOFFMANN, flops=constant_flops(1e7))
    table = isoflop_table(law, BUDGETS, 9, noise=0.002, data_unit="samples")
    assert "implausible_units" not in findings(table)
    assert "implausible_units" in findings(replace(table, data_unit="tokens"))


def test_an_exponent_that_noise_hides():
    table = isoflop_table(HOFFMANN, BUDGETS, 7)
    noise = np.random.default_rng(1).standard_normal(len(table.loss))
    laws = fit(replace(table, loss=table.loss * np.exp(0.3 * noise)), options=FAST)
    unknown = next(f for f in laws.findings if f.code == "exponent_unknown")
    assert unknown.level == "error"
    assert "essentially unconstrained (90% CI [" in unknown.message
    assert not laws.laws["extended"].knows_exponent
    assert laws.methods["extended"].law is laws.laws["extended"]
    assert laws.trust.level == "no"


def test_another_law_that_knows_the_exponent_answers_and_is_no_reason_to_trust_it():
    # Exponents free to drift by e^3 leave the default unconstrained on runs that constrain the others.
    options = replace(FAST, exponent_drift_sd=3.0, max_hidden_budgets=0)
    laws = fit(isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.01), options=options)
    assert not laws.laws["extended"].knows_exponent
    assert laws.laws[laws.recommended].knows_exponent
    assert "predictions come from another method that does constrain it" in laws.reason
    unknown = next(f for f in laws.findings if f.code == "exponent_unknown")
    assert "so predictions come from another method" in unknown.message
    assert laws.trust.level == "no"


def test_an_untested_exponent_is_no_surer_than_those_of_published_sweeps():
    laws = fit(isoflop_table(HOFFMANN, BUDGETS[:3], 9, noise=0.0005), options=FAST)
    a = laws.laws[laws.recommended].a
    # 1.645 standard deviations of the form error, per decade of C, on each side.
    assert a.high - a.low >= 2 * 1.64 * form_error("extended", [], FAST).n_sd / np.log(10)
