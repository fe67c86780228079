"""Results of one method on one sweep: curves, laws, backtest rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, cast

from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.records import FloatArray, Interval

KNOWN_NOTHING = 0.5
"""Width of the interval of a in N_opt ~ C^a: the prior of the extended law's exponents alone gives .52."""

CurveCode = Literal["few_sizes", "negative_curvature", "optimum_at_edge", "scattered_curve"]
"""Why the minimum of an IsoFLOP curve is not used; also the code of the finding about it."""
Outcome = Literal["converged", "at_bound", "not_converged", "refused"]


@dataclass(frozen=True, kw_only=True, eq=False)
class IsoflopCurve:
    """Loss against N at one budget, and its minimum in log N."""

    compute_budget: float
    num_params: FloatArray
    """N of the budget's sizes, ascending, shape (n,); runs of one size are averaged."""
    loss: FloatArray
    in_window: FloatArray
    """1.0 where the run entered the parabola, else 0.0, shape (n,)."""
    coefficients: tuple[float, float, float] | None
    """(c2, c1, c0) of loss = c2 x^2 + c1 x + c0 with x = ln N; None where no parabola was possible."""
    n_opt: Interval | None
    """None where the curve has no usable minimum; ``code`` and ``reason`` then state why."""
    d_opt: Interval | None
    loss_opt: Interval | None
    code: CurveCode | None = None
    reason: str | None = None
    """The code in a sentence, for people."""


class Minimum(NamedTuple):
    """The minimum of one curve (row 0) and of its replicates, shape (1 + R,)."""

    log_n: FloatArray
    """NaN where a replicate has no minimum inside."""
    loss: FloatArray


@dataclass(frozen=True, kw_only=True)
class LawFit:
    """One method's law. A refused one has no exponents and states why."""

    name: str
    outcome: Outcome
    reason: str
    """How the fit ended, or why it was refused; for people."""
    parameters: Mapping[str, Interval]
    """By name, natural units: E, A, B, alpha, beta for Chinchilla; k, c1, c2, h1, h2 more for the extended law."""
    a: Interval | None
    """Exponent of N_opt ~ C^a at the middle of the fitted budgets; its interval includes what the backtests add."""
    b: Interval | None
    """Exponent of D_opt ~ C^b."""
    num_runs: int
    objective: float | None = None

    @property
    def knows_exponent(self) -> bool:
        """Whether the interval of a is narrower than without any run."""
        return self.a is not None and self.a.high - self.a.low <= KNOWN_NOTHING


class FittedMethod(Protocol):
    """What a fitted method offers: a frozen dataclass with a field ``law`` and two calls."""

    @property
    def law(self) -> LawFit:
        """Parameters and exponents, for people."""
        ...

    def optimum(self, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """Log: ln N_opt and ln loss there, at ln C of shape (m,)."""
        ...

    def log_loss_at(self, log_n: FloatArray, log_d: FloatArray, level: float) -> Spread | None:
        """Log: ln loss at any (N, D); None where the method has no L(N, D)."""
        ...


@dataclass(frozen=True, kw_only=True)
class BacktestRow:
    """One prediction of a held-out budget from the smaller ones."""

    hidden: int
    """How many top budgets were held out."""
    compute_budget: float
    law: str
    """Method name, "default", or a baseline: "ratio20", "slope_half"."""
    log_n_opt_error: float | None
    """ln(predicted / observed N_opt); None where the held-out budget has no minimum."""
    log_loss_error: float | None
    n_opt_covered: bool | None
    """Whether the interval covers the observed value; None for baselines."""
    loss_covered: bool | None


def with_law(method: FittedMethod, law: LawFit) -> FittedMethod:
    """Returns the method with another law, such as one with wider intervals."""
    return cast(FittedMethod, replace(cast(Any, method), law=law))


def refused_law(name: str, reason: str, num_runs: int) -> LawFit:
    """A law that was not fitted to these runs, and why."""
    return LawFit(name=name, outcome="refused", reason=reason, parameters={}, a=None, b=None, num_runs=num_runs)


def plain_law(law: LawFit) -> dict[str, Any]:
    """One law of `fit --json`: parameters and exponents as plain numbers, their intervals as [low, high]."""
    known = {**law.parameters, **{k: v for k, v in (("a", law.a), ("b", law.b)) if v is not None}}
    return {
        **{name: float(interval.value) for name, interval in known.items()},
        "intervals": {name: [float(interval.low), float(interval.high)] for name, interval in known.items()},
        "outcome": law.outcome,
        "reason": law.reason,
        "num_runs": law.num_runs,
        "objective": law.objective,
    }
