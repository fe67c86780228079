"""The registry of methods: one file and one line make a method that every output knows."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from tables_of_runs import isoflop_table

from flops_fit.errors import ConfigError
from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.methods import registry
from flops_fit.fitting.methods.method import Method, NotApplicable
from flops_fit.fitting.methods.registry import register
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.records import Interval
from flops_fit.reporting import format_summary, write_report

HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
BUDGETS = np.geomspace(1e18, 3e20, 6)
FAST = FitOptions(num_bootstraps=20)


@dataclass(frozen=True, kw_only=True, eq=False)
class HalfMethod:
    """N_opt = sqrt(C / 120), loss 2 everywhere."""

    law: LawFit

    def optimum(self, log_compute, level):
        return _exactly(0.5 * (log_compute - np.log(120))), _exactly(np.full_like(log_compute, np.log(2.0)))

    def log_loss_at(self, log_n, log_d, level):
        return _exactly(np.full_like(log_n, np.log(2.0)))


def fit_half(inputs):
    half = Interval(value=0.5, low=0.49, high=0.51)
    law = LawFit(
        name="half", outcome="converged", reason="by definition", parameters={"E": half}, a=half, b=half,
        num_runs=len(inputs.log_runs),
    )  # fmt: skip
    return HalfMethod(law=law)


def _exactly(value):
    zero = np.zeros_like(value)
    return Spread(value=value, down=zero, up=zero, form=zero)


@pytest.fixture
def with_toy(monkeypatch):
    def add(**changes):
        toy = Method(**{"name": "half", "title": "Half and half", "fit": fit_half, **changes})
        monkeypatch.setattr(registry, "METHODS", register(*registry.METHODS, toy))

    return add


def test_a_registered_method_is_in_every_output(with_toy, tmp_path):
    with_toy(has_surface=True)
    laws = fit(isoflop_table(HOFFMANN, BUDGETS, 7, noise=0.002), options=replace(FAST, law="half"))
    plain = laws.to_plain()
    assert plain["recommended"] == "half"
    assert plain["laws"]["half"]["a"] == 0.5
    assert "half" in {row["law"] for row in plain["backtest"]["rows"]}
    assert laws.predict(1.2e22, law="half").num_params == pytest.approx(1e10)
    assert "Half and half" in format_summary(laws, None)
    assert "Half and half" in write_report(laws, tmp_path / "report.html").read_text()


def test_the_lists_follow_the_entry(with_toy):
    with_toy(preference=0, stacked=True, stacked_loss=True, has_surface=True)
    assert registry.preferred_methods()[0] == "half"
    assert registry.surface_methods()[0] == "half"
    for names in (registry.stacked_methods(), registry.loss_methods(), registry.selectable_methods()):
        assert names[-1] == "half"


def test_a_method_that_is_not_offered_cannot_be_asked_for(with_toy):
    with_toy(selectable=False)
    with pytest.raises(ConfigError, match="unknown law 'half'"):
        fit(isoflop_table(HOFFMANN, BUDGETS, 7), options=replace(FAST, law="half"))


def test_a_method_that_does_not_apply_is_not_listed(with_toy):
    with_toy(fit=lambda inputs: NotApplicable(reason="no audio in these runs"))
    assert "half" not in fit(isoflop_table(HOFFMANN, BUDGETS, 7), options=FAST).to_plain()["laws"]


def test_a_method_registered_twice_is_an_error():
    with pytest.raises(ConfigError, match="'extended' is registered twice"):
        register(*registry.METHODS, replace(registry.METHODS[0], name="extended"))


def test_every_title_is_used_once():
    titles = [method.title for method in registry.METHODS]
    assert len(set(titles)) == len(titles)
