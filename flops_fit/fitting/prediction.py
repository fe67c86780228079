"""Predictions: the optimum at one budget, with intervals and a baseline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flops_fit.fitting.trust import Trust
from flops_fit.quantities import format_count, format_flops
from flops_fit.records import Finding
from flops_fit.schema import to_plain


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
    """Name of the method ("approach3", "extended", ...); "stack" where several answer together."""
    weights: Mapping[str, float]
    """Weight of each method in N_opt; they sum to 1."""
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
        head = f"Prediction at C = {format_flops(self.compute)} FLOPs, law={self.law}, {self.level:.0%} intervals:"
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
        others = (
            "level",
            "extrapolation_factor",
            "law",
            "weights",
            "exponent",
            "interval_basis",
            "baseline",
            "findings",
        )
        return {**plain, **{name: to_plain(getattr(self, name)) for name in others}, "trust": self.trust.to_plain()}
