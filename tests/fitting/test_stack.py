"""Stacks: one law near the runs, several far out, and what they differ by in the interval."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tables_of_runs import isoflop_table

from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.backtest.form_error import FormError
from flops_fit.fitting.backtest.stack import KEPT, Stack
from flops_fit.fitting.uncertainty.spread import Spread

TOP = float(np.log(1e20))
FORM = FormError(n_sd=0.1, loss_sd=0.01, n_score=0.1, num_trials=3)


def law(log_n, outcome="converged", log_loss=1.0, sd=0.05):
    """A law with one N_opt and one loss at every C."""

    def optimum(log_compute, level):
        ones = np.ones_like(log_compute)
        return tuple(
            Spread(value=v * ones, down=s * ones, up=s * ones, form=0 * ones)
            for v, s in ((log_n, sd), (log_loss, 0.01))
        )

    return SimpleNamespace(law=SimpleNamespace(outcome=outcome), optimum=optimum)


def stack(**laws):
    forms = dict.fromkeys(laws, FORM)
    return Stack(methods=laws, forms=forms, log_low=TOP - 4.6, log_top=TOP)


def at(decades):
    return np.array([TOP + decades * np.log(10)])


@pytest.mark.parametrize("decades", [-1.0, 0.0, 0.49])
def test_near_the_runs_the_recommended_law_answers_alone(decades):
    together = stack(extended=law(20.0), windowed=law(21.0), approach2=law(22.0))
    assert together.weights("extended", at(decades))["extended"][0] == 1.0
    assert together.together("extended", at(decades), 0.9)[0].value[0] == 20.0


def test_far_out_the_recommended_law_keeps_half_and_scores_share_the_rest():
    three = stack(extended=law(20.0), windowed=law(21.0), approach2=law(22.0))
    forms = {**three.forms, "windowed": replace(FORM, n_score=1.0)}
    weights = {k: w[0] for k, w in replace(three, forms=forms).weights("extended", at(2.0)).items()}
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["extended"] >= KEPT
    # 1 / (score^2 + .1^2): a tenth of the score counts about fifty times as much.
    assert weights["approach2"] / weights["windowed"] == pytest.approx((1.0 + 0.01) / (0.01 + 0.01))


def test_laws_on_one_side_widen_the_interval_although_each_is_unsure():
    agreeing, apart = (
        stack(extended=law(20.0), windowed=law(n, sd=2.0), approach2=law(n, sd=2.0)) for n in (20.0, 21.0)
    )
    for decades in (0.4, 1.0, 3.0):
        near, far = (s.together("extended", at(decades), 0.9)[0] for s in (agreeing, apart))
        assert (far.high - far.low)[0] > (near.high - near.low)[0]


def test_a_law_at_a_bound_shares_no_answer():
    both = stack(extended=law(20.0), windowed=law(25.0, outcome="at_bound"))
    assert "windowed" not in both.weights("extended", at(3.0))


def test_the_loss_is_weighed_by_the_interval_of_each_law():
    both = stack(extended=law(20.0, log_loss=1.0), farseer=law(20.0, log_loss=1.1))
    sure = replace(both, forms={"extended": FORM, "farseer": replace(FORM, loss_sd=0.0)})
    middle, pulled = (float(s.together("extended", at(1.0), 0.9)[1].value[0]) for s in (both, sure))
    assert middle == pytest.approx(1.05)
    assert 1.05 < pulled < 1.1


HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


@pytest.fixture(scope="module")
def laws():
    return fit(
        isoflop_table(HOFFMANN, np.geomspace(1e18, 3e20, 6), 7, noise=0.003), options=FitOptions(num_bootstraps=40)
    )


def test_a_prediction_names_the_laws_that_answer_and_their_shares(laws):
    near, far, one = laws.predict(5e20), laws.predict(1e23), laws.predict(1e23, law="extended")
    assert (near.answered_by, far.answered_by, one.answered_by) == ("extended", "stack", "extended")
    assert {near.law, far.law, one.law} == {laws.recommended}
    assert set(far.weights) == {"extended", "windowed", "approach2"}
    assert "and what they differ by" in far.interval_basis
    assert one.weights == {"extended": 1.0}
    # What was measured is the default's coverage, far out that of several laws together.
    assert "not measured" in one.interval_basis
    assert all("held N_opt" in p.interval_basis for p in (near, far))


def test_the_exponent_of_a_prediction_is_the_slope_of_its_answers(laws):
    sizes, _, _ = laws.n_opt_band(1e23 * np.exp([-0.5, 0.5]))
    assert laws.predict(1e23).exponent == pytest.approx(np.log(sizes[1] / sizes[0]), abs=1e-9)


@pytest.mark.parametrize("factor", [1e-4, 1e6])
def test_a_target_far_outside_is_no_narrow_answer(laws, factor):
    far, top = laws.predict(laws.max_compute * factor), laws.predict(laws.max_compute)
    assert far.trust.level != "ok"
    width, inside = (np.log(p.num_params_interval[1] / p.num_params_interval[0]) for p in (far, top))
    assert width > 3 * inside
