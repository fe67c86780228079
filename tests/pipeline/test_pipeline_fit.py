"""The choice of size and tokens, held against a law that is known: L = 1.7 + 400/N^0.34 + 410/D^0.28."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from flops_fit.errors import PlanError
from flops_fit.fitting.inputs.repeats import effective_tokens
from flops_fit.fitting.trust import Trust
from flops_fit.pipeline import fit as stage
from flops_fit.pipeline.fit import choose, describe
from flops_fit.pipeline.loss_surface import PUBLISHED_R, LossSurface, surface_of
from flops_fit.pipeline.settings import PipelineSettings
from flops_fit.records import ModelProbe

UNIQUE, UNIT = 1_000_000, 50


def loss(n, d):
    return 1.7 + 400 / n**0.34 + 410 / d**0.28


class Sizes:
    """Stands for the real models: N = 100 size^1.5 and C = 6 N D, so that no model has to be built."""

    def __init__(self, task, low, high):
        self.all = [
            ModelProbe(
                size_param_value=s, num_params=round(100 * s**1.5), num_params_non_embedding=1,
                flops_per_token=6.0 * round(100 * s**1.5),
            )
            for s in range(low, high + 1, 4)
        ]  # fmt: skip

    def nearest(self, num_params, most):
        allowed = [p for p in self.all if p.num_params <= most.num_params]
        return min(allowed, key=lambda p: abs(math.log(p.num_params / num_params)))

    def largest(self, compute, tokens, what):
        allowed = [p for p in self.all if p.flops_per_token * tokens <= compute]
        if not allowed:
            raise PlanError(f"{what}: nothing fits. Try fewer --epochs.")
        return allowed[-1]

    def smallest(self):
        return self.all[0]


class Laws:
    """A fit that knows the law exactly."""

    laws: dict = {}
    recommended = "extended"
    min_compute = 1e9
    runs = SimpleNamespace(num_params=np.array([1e4]), num_tokens=np.array([1e5]))

    def loss_at(self, n, d, *, law=None, level=None):
        value = np.atleast_1d(loss(np.asarray(n), np.asarray(d)))
        return value, value * 0.98, value * 1.02

    def n_opt_band(self, compute):
        values = np.array([optimum(c) for c in compute])
        return values, values, values

    def d_opt_band(self, compute):
        values = compute / 6 / self.n_opt_band(compute)[0]
        return values, values, values


def optimum(compute):
    n = np.geomspace(1e2, 1e8, 20_000)
    return n[np.argmin(loss(n, compute / 6 / n))]


class KnownResult:
    laws = Laws()
    trust = Trust(level="ok", headline="No doubt.", reasons=())

    def predict(self, compute):
        n = optimum(compute)
        return SimpleNamespace(
            num_params=n, num_params_interval=(0.9 * n, 1.1 * n), num_tokens=compute / 6 / n, law="extended",
            loss=loss(n, compute / 6 / n), loss_interval=(1.0, 3.0), trust=self.trust,
        )  # fmt: skip


TASK = SimpleNamespace(unique_tokens=UNIQUE, tokens_per_sample=UNIT)


@pytest.fixture(autouse=True)
def _no_models(monkeypatch):
    monkeypatch.setattr(stage, "Sizes", Sizes)


def chosen(result=None, **changes):
    settings = PipelineSettings(**({"compute": 1e12, "max_size": 2000, "eval_samples": 1} | changes))
    found, surface = choose(settings, TASK, result or KnownResult(), "")
    return found, surface, settings


def test_without_epochs_the_choice_is_the_optimum_at_the_compute():
    choice, _, _ = chosen()
    assert choice.trusted
    assert choice.probe.num_params == pytest.approx(optimum(1e12), rel=0.1)
    assert choice.compute == pytest.approx(1e12, rel=1e-3)
    assert choice.num_tokens % UNIT == 0


@pytest.mark.parametrize("epochs", [1, 3, 20])
def test_with_epochs_the_tokens_are_exact_and_no_affordable_size_is_expected_to_be_better(epochs):
    choice, _, settings = chosen(epochs=epochs)
    assert choice.num_tokens == epochs * UNIQUE
    assert choice.compute <= settings.compute
    worth = float(effective_tokens(np.array([1.0 * epochs * UNIQUE]), np.array([1.0 * UNIQUE]), PUBLISHED_R[0])[0])
    affordable = [
        p.num_params for p in Sizes(None, 8, 2000).all if 6 * p.num_params * epochs * UNIQUE <= settings.compute
    ]
    best = min(affordable, key=lambda n: loss(n, worth))
    # The law is asked on a grid of N, and the nearest size is taken.
    assert loss(choice.probe.num_params, worth) == pytest.approx(loss(best, worth), rel=1e-3)


def test_repeated_tokens_count_less_and_the_interval_holds_the_doubt_of_it():
    once = surface_of(Laws(), UNIQUE, repeats=False)
    many = surface_of(Laws(), UNIQUE, repeats=True)
    assert "Muennighoff" in many.about
    n, d = np.array([5e4]), 20.0 * UNIQUE
    assert many.loss_at(n, d)[0] > once.loss_at(n, d)[0]
    low, high = many.loss_at(n, d)[1:]
    assert high - low > 0.04 * many.loss_at(n, d)[0]
    assert many.loss_at(n, UNIQUE)[0] == pytest.approx(once.loss_at(n, UNIQUE)[0])


def test_a_repeat_constant_of_the_users_own_sweep_is_used_where_it_was_fitted():
    laws = Laws()
    r = SimpleNamespace(value=3.0, low=2.0, high=5.0)
    laws.laws = {"data_constrained": SimpleNamespace(outcome="converged", parameters={"R": r})}
    found = surface_of(laws, UNIQUE, repeats=True)
    assert (found.law, found.repeat_constants) == ("data_constrained", (3.0, 2.0, 5.0))
    laws.laws = {"data_constrained": SimpleNamespace(outcome="at_bound", parameters={"R": r})}
    assert surface_of(laws, UNIQUE, repeats=True).repeat_constants == PUBLISHED_R


def test_the_optimum_stands_beside_what_was_asked_for_with_what_the_difference_costs():
    choice, surface, settings = chosen(epochs=20)
    values = describe(choice, surface, KnownResult(), settings)
    best = values["compute_optimal"]
    assert best["num_params"] > 1.5 * choice.probe.num_params
    assert best["loss_difference"] == pytest.approx(values["prediction"]["loss"] - best["loss"])
    # The optimum at C divided by the factor is expected to have the loss of the choice.
    smaller = choice.compute / best["compute_factor"]
    n = np.array([optimum(smaller)])
    assert surface.loss_at(n, smaller / 6 / n)[0][0] == pytest.approx(values["prediction"]["loss"], rel=0.01)


def test_a_law_that_is_not_to_be_trusted_leaves_the_choice_to_the_rule_of_thumb():
    doubted = KnownResult()
    doubted.trust = replace(KnownResult.trust, level="no", headline="DO NOT USE THIS ANSWER: edge.")
    choice, _, _ = chosen(doubted, compute=1.2e11)
    assert not choice.trusted
    assert "edge" in choice.reason
    assert choice.probe.num_params == pytest.approx(math.sqrt(1.2e11 / 120), rel=0.1)
    assert choice.compute == pytest.approx(1.2e11, rel=1e-3)
    choice, _, _ = chosen(doubted, compute=1.2e11, epochs=1)
    assert choice.num_tokens == UNIQUE
    assert choice.compute <= 1.2e11


def test_an_optimum_beyond_four_passes_is_not_trusted():
    choice, _, _ = chosen(compute=1e15)
    assert not choice.trusted
    assert "times, and the law holds up to 4" in choice.reason
    assert choice.num_tokens <= 4 * UNIQUE


def test_without_a_sweep_there_is_no_prediction():
    settings = PipelineSettings(compute=1.2e11, epochs=2)
    choice, surface = choose(settings, TASK, None, "the corpus is too small")
    values = describe(choice, surface, None, settings)
    assert (values["trusted"], values["prediction"], values["compute_optimal"]) == (False, None, None)
    assert values["reason"] == "the corpus is too small"
    assert values["num_tokens"] == 2 * UNIQUE


def test_more_epochs_than_the_compute_pays_for_are_refused():
    with pytest.raises(PlanError, match="--epochs"):
        chosen(epochs=1_000_000)


def test_the_interval_of_a_surface_is_at_ninety_percent():
    assert LossSurface.level == 0.9
