"""Predictions: the optimum at one budget, with intervals, a baseline, and findings about its target."""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.methods.registry import STACK, method_title
from flops_fit.fitting.trust import Trust
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.quantities import format_count, format_factor, format_flops
from flops_fit.records import Finding, FloatArray
from flops_fit.schema import to_plain

FAR = 10.0
"""Beyond this many times the tested factor an extrapolation is a warning, not an info."""
COVERAGE = Path(__file__).with_name("measured_coverage.json")
"""Written by `tests/benchmarks/fitting.py table`."""
LEADING_CODES = ("below_sweep", "extrapolation", "methods_disagree")
"""Findings about a target outside what was fitted and tested, or where the methods are far apart; they lead the
verdict."""
APART = 2.0
"""Methods whose N_opt differ by more than this factor at the target are far apart."""
USELESS = 100.0
"""An N_opt interval whose ends differ by more than this factor is no answer."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A predicted number with its statistical and model-form uncertainty."""

    value: float
    interval: tuple[float, float]
    """(low, high) at the prediction's level, statistical and form parts together."""
    statistical_interval: tuple[float, float]
    """Statistical part: the interval if the law were exactly right."""
    form_interval: tuple[float, float]
    """Model-form part: the interval if there were no noise."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The rule of thumb D/N = 20 at the same compute, to compare with."""

    num_params: float
    num_tokens: float
    loss: float | None
    """What the fitted law expects there; None where the method has no L(N, D)."""
    tokens_per_param: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The compute-optimal model at one budget."""

    compute: float
    """C, training FLOPs."""
    law: str
    """Name of the recommended method, or of the one asked for ("approach3", "extended", ...)."""
    weights: Mapping[str, float]
    """Weight of each method in N_opt; they sum to 1, and ``law`` has all near the runs and at least half far out."""
    level: float
    """Nominal coverage of each interval, such as 0.9."""
    extrapolation_factor: float
    """``compute`` over the largest budget that was fitted."""
    num_params_estimate: Estimate
    num_tokens_estimate: Estimate
    tokens_per_param_estimate: Estimate
    loss_estimate: Estimate
    exponent: float
    """d ln N_opt / d ln C at ``compute``: the slope that this answer uses, beside the exponent a of the sweep."""
    baseline: Baseline
    interval_basis: str
    """What the intervals include and how their coverage was measured; for people."""
    findings: tuple[Finding, ...]
    """What to know about this prediction in particular."""
    trust: Trust
    """Whether to use it, by the findings of the fit and its own."""

    @property
    def answered_by(self) -> str:
        """``law`` where it answers alone, "stack" where several do."""
        return self.law if len(self.weights) == 1 else STACK

    @property
    def num_params(self) -> float:
        """N_opt, parameters."""
        return self.num_params_estimate.value

    @property
    def num_params_interval(self) -> tuple[float, float]:
        """(low, high) of N_opt."""
        return self.num_params_estimate.interval

    @property
    def num_tokens(self) -> float:
        """D_opt, tokens."""
        return self.num_tokens_estimate.value

    @property
    def num_tokens_interval(self) -> tuple[float, float]:
        """(low, high) of D_opt."""
        return self.num_tokens_estimate.interval

    @property
    def tokens_per_param(self) -> float:
        """D_opt / N_opt."""
        return self.tokens_per_param_estimate.value

    @property
    def tokens_per_param_interval(self) -> tuple[float, float]:
        """(low, high) of D_opt / N_opt."""
        return self.tokens_per_param_estimate.interval

    @property
    def loss(self) -> float:
        """Expected loss at the optimum, nats per token."""
        return self.loss_estimate.value

    @property
    def loss_interval(self) -> tuple[float, float]:
        """(low, high) of the loss at the optimum."""
        return self.loss_estimate.interval

    def __repr__(self) -> str:
        rows = {"N": self.num_params_estimate, "D": self.num_tokens_estimate, "D/N": self.tokens_per_param_estimate}
        lines = [
            f"  {name} = {format_count(e.value)} [{format_count(e.interval[0])}, {format_count(e.interval[1])}]"
            for name, e in rows.items()
        ]
        low, high = self.loss_interval
        head = (
            f"Prediction at C = {format_flops(self.compute)} FLOPs, law={self.answered_by}, {self.level:.0%} intervals:"
        )
        loss = f"  loss = {self.loss:.4g} [{low:.4g}, {high:.4g}]"
        return "\n".join([self.trust.headline, head, *lines, loss, f"  N_opt ~ C^{self.exponent:.3f} there"])

    def to_plain(self) -> dict[str, Any]:
        """The object that `predict --json` prints: plain floats, intervals as [low, high]."""
        plain: dict[str, Any] = {"compute": self.compute}
        for name in ("num_params", "num_tokens", "tokens_per_param", "loss"):
            estimate: Estimate = getattr(self, f"{name}_estimate")
            plain[name] = estimate.value
            plain[f"{name}_interval"] = list(estimate.interval)
            plain[f"{name}_statistical_interval"] = list(estimate.statistical_interval)
            plain[f"{name}_form_interval"] = list(estimate.form_interval)
        others = ("level", "extrapolation_factor", "law", "weights", "exponent", "interval_basis", "baseline")
        plain |= {name: to_plain(getattr(self, name)) for name in others}
        return {**plain, "findings": to_plain(self.findings), "trust": self.trust.to_plain()}


def make_estimates(size: Spread, loss: Spread, flops: FlopsFunction, log_c: FloatArray) -> tuple[Estimate, ...]:
    """N_opt, D_opt, their ratio and the loss in natural units, of ln N_opt and ln loss at ln C, each of shape (1,)."""
    log_n = _ends(size)
    log_d = flops.log_tokens(log_c, log_n)
    return _estimate(log_n), _estimate(log_d), _estimate(log_d - log_n), _estimate(_ends(loss))


def _ends(spread: Spread) -> FloatArray:
    """Log: the value, then the ends of its whole, its statistical and its form interval, shape (7,)."""
    none = np.zeros_like(spread.value)
    parts = (spread, replace(spread, form=none), replace(spread, down=none, up=none))
    return np.concatenate([spread.value, *(end for part in parts for end in (part.low, part.high))])


def _estimate(ends: FloatArray) -> Estimate:
    value, *natural = np.exp(ends).tolist()
    whole, statistical, form = ((min(pair), max(pair)) for pair in zip(natural[::2], natural[1::2], strict=True))
    return Estimate(value=value, interval=whole, statistical_interval=statistical, form_interval=form)


def interval_basis(weights: Mapping[str, float], level: float, num_trials: int, *, is_default: bool) -> str:
    """What the intervals of an answer with these weights include, and what was measured of the default's."""
    form = f"{num_trials} backtests on these runs and on published sweeps" if num_trials else "published sweeps alone"
    shares = ", ".join(f"{method_title(name)} {w:.0%}" for name, w in weights.items())
    mixed = f"; {shares}, and what they differ by" if len(weights) > 1 else ""
    return (
        f"nominal {level:.0%}; statistical error and model-form error, the latter learned from {form}{mixed}; "
        f"{measured_coverage() if is_default else 'the coverage of this law alone was not measured'}"
    )


@functools.cache
def measured_coverage() -> str:
    """What was measured of the default's 90% intervals: on held-out budgets of published sweeps, then on simulated."""
    found = json.loads(COVERAGE.read_text(encoding="utf-8"))
    real, worlds = found["real"], found["worlds"]
    return (
        f"at 90% they held N_opt in {real['n_opt']:.0%} and the loss in {real['loss']:.0%} of {real['cases']} held-out "
        f"budgets of published sweeps, and N_opt in {worlds['n_opt_mean']:.0%} of simulated sweeps in "
        f"{worlds['count']} worlds ({worlds['n_opt_worst']:.0%} in the worst, {worlds['worst_world']})"
    )


def diagnose_range(compute: float, smallest: float, largest: float, tested: float) -> Iterator[Finding]:
    """Yields the finding about C below the sweep, or farther above it than the factor that backtests tested."""
    here = f"{format_flops(compute)} FLOPs is"
    if compute < smallest:
        message = f"{here} {format_factor(smallest / compute)} below the smallest fitted budget "
        message += f"({format_flops(smallest)}), where nothing tested the law."
        advice = "Add budgets around the target, or train there: such runs are cheaper than the sweep."
        yield Finding(level="warning", code="below_sweep", message=message, advice=advice)
    elif compute > largest * tested:
        reached = f"backtests tested up to {format_factor(tested)}"
        message = f"{here} {format_factor(compute / largest)} the largest fitted budget ({format_flops(largest)}); "
        message += f"{reached if tested > 1 else 'no backtest tested any extrapolation'}."
        advice = "The interval grows with the distance. A run nearer to the target shrinks it most."
        far = compute > FAR * largest * tested
        yield Finding(level="warning" if far else "info", code="extrapolation", message=message, advice=advice)


def diagnose_size(size: Spread, rivals: Mapping[str, Spread], flops: FlopsFunction) -> Iterator[Finding]:
    """Yields findings about ln N_opt at one budget, by the answer and by each method to compare, of shape (1,)."""
    sizes = {name: float(np.exp(spread.value[0])) for name, spread in rivals.items()}
    least, most = min(sizes.values(), default=1.0), max(sizes.values(), default=1.0)
    if most > APART * least:
        listed = ", ".join(f"{method_title(name)} {format_count(n)}" for name, n in sizes.items())
        message = f"Here the methods disagree on N_opt by {format_factor(most / least)}, from {format_count(least)} to "
        message += f"{format_count(most)}: {listed}."
        advice = "Take the whole range as possible, or add a budget nearer to the target."
        yield Finding(level="warning", code="methods_disagree", message=message, advice=advice)
    width = float(np.exp(size.high[0] - size.low[0]))
    if width > USELESS:
        message = f"The interval of N_opt spans {format_factor(width)}: these runs do not determine the optimum there."
        advice = "Add budgets nearer to the target, and sizes on both sides of each minimum."
        yield Finding(level="error", code="no_useful_interval", message=message, advice=advice)
    log_n, first, last = float(size.value[0]), float(flops.log_n[0]), float(flops.log_n[-1])
    if not flops.is_constant and not first <= log_n <= last:
        message = f"FLOPs per token were counted for N from {np.exp(first):.3g} to {np.exp(last):.3g}; at "
        message += f"{np.exp(log_n):.3g} their ratio to 6N is extrapolated."
        advice = "Count the FLOPs of the target model and compare."
        yield Finding(level="info", code="flops_extrapolated", message=message, advice=advice)
