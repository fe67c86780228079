"""Differences between fits: equal worlds do not differ, different ones do, and no bad law decides."""

from dataclasses import replace

import numpy as np
import pytest
from tables_of_runs import isoflop_table

from flops_fit.errors import FitError, InputError
from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.comparison import common_compute, common_law, compare_laws
from flops_fit.records import Finding

LAW = ChinchillaLaw(E=0.03, A=0.03 * 3e4**0.35 / 0.35, B=0.03 * 3e6**0.35 / 0.35, alpha=0.35, beta=0.35)
"""Losses and sizes as of a small image network."""
BUDGETS = np.geomspace(1e11, 1.6e12, 5)
NOISE = 0.005


def fitted(law=LAW, *, seed=0, budgets=BUDGETS, **columns):
    table = isoflop_table(law, budgets, 4, reach=3, noise=NOISE, seed=seed, **columns)
    return fit(table, options=FitOptions(num_bootstraps=20))


@pytest.fixture(scope="module")
def first():
    return fitted(seed=1)


@pytest.fixture(scope="module")
def equal():
    return fitted(seed=2)


@pytest.fixture(scope="module")
def lower():
    """A tenth lower in every term, so in every loss."""
    return fitted(replace(LAW, E=0.9 * LAW.E, A=0.9 * LAW.A, B=0.9 * LAW.B), seed=3)


@pytest.fixture(scope="module")
def steeper():
    """Its N_opt grows as C^0.64 instead of C^0.5, with losses about the same at the last budget."""
    law = ChinchillaLaw(E=0.03, A=0.03 * 3e4**0.25 / 0.25, B=0.03 * 3e6**0.45 / 0.45, alpha=0.25, beta=0.45)
    return fitted(law, seed=4)


def test_fits_of_one_law_do_not_differ(first, equal):
    found = compare_laws({"one": first, "two": equal})
    assert found.differing == ()
    (difference,) = found.differences
    assert difference.loss.low < 0 < difference.loss.high


def test_a_lower_loss_is_found_and_the_interval_holds_the_true_difference(first, lower):
    (difference,) = compare_laws({"one": first, "two": lower}).differing
    truth = 0.1 * float(LAW.loss_opt(BUDGETS[-1]))
    assert difference.loss.low < truth < difference.loss.high
    assert difference.relative_loss.value == pytest.approx(1 / 0.9 - 1, abs=0.02)  # 3 sd of two losses
    assert difference.a.low < 0 < difference.a.high


def test_the_difference_of_exponents_is_that_of_one_law(first, steeper):
    (difference,) = compare_laws({"one": first, "two": steeper}).differences
    assert difference.a.low < 0.5 - 0.45 / 0.7 < difference.a.high


def test_intervals_are_wider_the_more_pairs_there_are(first, equal, lower):
    alone = compare_laws({"one": first, "two": equal})
    among = compare_laws({"one": first, "two": equal, "three": lower})
    assert (alone.single_level, among.single_level) == (pytest.approx(0.95), pytest.approx(1 - 0.1 / 6))
    assert len(among.differences) == 3
    width = [c.differences[0].loss.high - c.differences[0].loss.low for c in (alone, among)]
    assert width[0] < width[1]


def test_the_error_of_the_held_out_set_is_part_of_the_loss_difference_only(first, lower):
    error = 0.04 * first.runs.loss
    noisy = replace(first, runs=replace(first.runs, loss_std_error=error))
    (plain,), (wide,) = (compare_laws({"one": one, "two": lower}).differences for one in (first, noisy))
    assert wide.loss_parts.held_out == pytest.approx(
        0.04 * wide.loss.value + 0.04 * 0.9 * LAW.loss_opt(BUDGETS[-1]), rel=0.2
    )
    assert wide.loss.high - wide.loss.low > 1.5 * (plain.loss.high - plain.loss.low)
    assert wide.a == plain.a


def with_error(laws, code):
    return replace(laws, findings=(Finding(level="error", code=code, message="No.", advice="Stop."),))


def test_a_law_that_is_not_to_be_used_decides_nothing(first, lower):
    found = compare_laws({"one": first, "two": with_error(lower, "loss_not_falling")})
    assert [(c.name, c.loss_decides, c.exponent_decides) for c in found.untrusted] == [("two", False, False)]
    assert found.differing == ()


def test_an_unknown_exponent_takes_the_exponent_s_say_and_not_that_of_the_loss(first, lower):
    found = compare_laws({"one": first, "two": with_error(lower, "exponent_unknown")})
    assert [(c.name, c.loss_decides, c.exponent_decides) for c in found.untrusted] == [("two", True, False)]
    assert len(found.differing) == 1
    (difference,) = found.differences
    by_exponent = replace(
        difference, a=replace(difference.a, low=0.5, high=1.0), loss=replace(difference.loss, low=-1.0, high=1.0)
    )
    assert replace(found, differences=(by_exponent,)).differing == ()


def test_the_compute_is_the_largest_that_all_reach(first):
    shorter = fitted(budgets=BUDGETS[:4], seed=6)
    assert common_compute({"one": first, "two": shorter}) == pytest.approx(BUDGETS[3])
    with pytest.raises(InputError, match="far: its sweep begins at"):
        common_compute({"one": first, "far": fitted(budgets=100 * BUDGETS, seed=7)})


def test_the_law_is_the_one_that_all_recommend_or_all_have(first, equal):
    assert common_law({"one": first, "two": equal}) == first.recommended == "extended"
    name = common_law({"one": first, "two": replace(equal, recommended="approach2")})
    assert {first.laws[name].outcome, equal.laws[name].outcome} == {"converged"}
    none = replace(equal, stack=replace(equal.stack, methods={}))
    with pytest.raises(FitError, match="two: none"):
        common_law({"one": first, "two": none})


def test_one_condition_is_not_compared(first):
    with pytest.raises(InputError, match="two or more"):
        compare_laws({"one": first})


@pytest.mark.parametrize("law", ["windowed", "approach3", "approach2"])
def test_other_laws_are_drawn_from_their_bootstrap(first, lower, law):
    chosen = {name: replace(laws, recommended=law) for name, laws in {"one": first, "two": lower}.items()}
    found = compare_laws(chosen)
    assert found.law == law
    assert found.differing
    for condition, laws in zip(found.conditions, chosen.values(), strict=True):
        expected = laws.predict(found.compute, law=law)
        # Up to the part of Student's t and of Monte Carlo, the interval that the law itself states.
        assert condition.loss.value == pytest.approx(expected.loss)
        assert condition.loss.high - condition.loss.low == pytest.approx(np.diff(expected.loss_interval)[0], rel=0.15)


def test_a_condition_s_own_intervals_are_those_that_the_fit_states(first, equal):
    found = compare_laws({"one": first, "two": equal})
    for condition, laws in zip(found.conditions, (first, equal), strict=True):
        expected = laws.predict(found.compute, law="extended")
        assert condition.loss.value == pytest.approx(expected.loss)
        assert condition.loss.high - condition.loss.low == pytest.approx(np.diff(expected.loss_interval)[0], rel=0.1)
        a = laws.laws["extended"].a
        assert condition.a.value == pytest.approx(a.value, abs=1e-6)
        assert condition.a.high - condition.a.low == pytest.approx(a.high - a.low, rel=0.1)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # Of the wild fit itself.
def test_a_law_that_nothing_constrains_still_gives_finite_numbers(first):
    flat = isoflop_table(LAW, BUDGETS[:3], 4, reach=1.2, noise=1.0, seed=9)
    wild = fit(flat, options=FitOptions(num_bootstraps=20))
    (difference,) = compare_laws({"one": first, "wild": wild}).differences
    for interval in (difference.loss, difference.relative_loss, difference.a):
        assert np.isfinite([interval.value, interval.low, interval.high]).all()
