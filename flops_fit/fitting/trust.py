"""Trust: whether an answer can be used, and why not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flops_fit.quantities import count_of
from flops_fit.records import Finding

TrustLevel = Literal["ok", "care", "no"]


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What a reader must know before any number."""

    level: TrustLevel
    """"no": do not use the answer; "care": use it with care; "ok": no check found a reason to doubt it."""
    headline: str
    """One sentence."""
    reasons: tuple[Finding, ...]
    """The findings behind it: the errors of an answer not to be used, the warnings of one to use with care."""

    def to_plain(self) -> dict[str, Any]:
        """The ``trust`` object of ``--json``."""
        reasons = [{"code": f.code, "message": f.message} for f in self.reasons]
        return {"level": self.level, "headline": self.headline, "reasons": reasons}


def judge(findings: Sequence[Finding], *, recommended: str | None, reason: str, untested: bool = False) -> Trust:
    """Says "no" where no law is recommended or a finding is an error, "care" where one is a warning.

    Args:
        findings: Of the fit, and of a prediction where one is judged.
        recommended: Name of the law to use; None where there is none.
        reason: Why that one, or why none.
        untested: Whether the prediction lies farther from the fit than any backtest tested.
    """
    errors = tuple(f for f in findings if f.level == "error")
    warnings = tuple(f for f in findings if f.level == "warning")
    if recommended is None:
        return Trust(level="no", headline=f"DO NOT USE: these runs support no prediction ({reason}).", reasons=errors)
    if errors:
        return Trust(level="no", headline=f"DO NOT USE THIS ANSWER: {errors[0].message}", reasons=errors)
    if warnings or untested:
        doubts = [f"{count_of(len(warnings), 'warning')}, listed below"] if warnings else []
        doubts += ["farther from the fit than any backtest tested"] if untested else []
        return Trust(level="care", headline=f"Use with care: {'; '.join(doubts)}.", reasons=warnings)
    return Trust(
        level="ok",
        headline="No check found a reason to doubt these runs. The intervals show how sure the numbers are.",
        reasons=(),
    )
