"""Can the answer be believed, and how far out was it tested?"""

from dataclasses import dataclass
from typing import Literal

from flops_fit.fitting.prediction import Prediction
from flops_fit.fitting.scaling_laws import ScalingLaws
from flops_fit.quantities import count_of
from flops_fit.records import Finding

Trust = Literal["untrusted", "careful", "sound"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a reader must hear before any number."""

    trust: Trust
    headline: str
    """One sentence."""
    reasons: tuple[Finding, ...]
    """The findings behind it: the errors of an untrusted answer, the warnings of a careful one."""


def judge(laws: ScalingLaws, prediction: Prediction | None = None) -> Verdict:
    """Untrusted where no law is recommended or a finding is an error; careful where one is a warning.

    Args:
        laws: What `fit` found.
        prediction: A prediction whose own findings count too.
    """
    findings = (*laws.findings, *(prediction.findings if prediction else ()))
    errors = tuple(f for f in findings if f.level == "error")
    warnings = tuple(f for f in findings if f.level == "warning")
    if laws.recommended is None:
        headline = f"DO NOT USE: these runs support no prediction ({laws.reason})."
        return Verdict(trust="untrusted", headline=headline, reasons=errors)
    if errors:
        headline = f"DO NOT TRUST THIS ANSWER: {errors[0].message}"
        return Verdict(trust="untrusted", headline=headline, reasons=errors)
    untested = prediction is not None and not is_tested(laws, prediction.compute)
    if warnings or untested:
        doubts = [f"{count_of(len(warnings), 'warning')}, listed below"] if warnings else []
        doubts += ["farther from the fit than any backtest tested"] if untested else []
        return Verdict(trust="careful", headline=f"Use with care: {'; '.join(doubts)}.", reasons=warnings)
    return Verdict(
        trust="sound",
        headline="No check found a reason to doubt these runs. The intervals say how sure the numbers are.",
        reasons=(),
    )


def tested_factor(laws: ScalingLaws) -> float:
    """The farthest extrapolation, as a factor of C, that a backtest of the recommended law tested; 1 for none."""
    reaches = [trial.reach for trial in laws.trials if trial.law == laws.recommended]
    return float(10 ** max(reaches, default=0.0))


def is_tested(laws: ScalingLaws, compute: float) -> bool:
    """Whether ``compute`` lies within what the backtests support."""
    # One per cent, because budgets are floats that went through logs.
    return compute <= 1.01 * laws.max_compute * tested_factor(laws)
