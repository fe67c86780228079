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
    """The findings behind it: first that a target is outside the tested range, unless errors outweigh it."""

    def to_plain(self) -> dict[str, Any]:
        """The ``trust`` object of ``--json``."""
        reasons = [{"code": f.code, "message": f.message} for f in self.reasons]
        return {"level": self.level, "headline": self.headline, "reasons": reasons}


def judge(
    findings: Sequence[Finding], *, recommended: str | None, reason: str, range_doubt: Finding | None = None
) -> Trust:
    """Judges an answer: "no" without a law or with an error, "care" with a warning or a doubt about the range.

    Args:
        findings: Of the fit, and of a prediction where one is judged.
        recommended: Name of the law to use; None where there is none.
        reason: Why that one, or why none.
        range_doubt: The finding, of any level, that a prediction lies outside what was fitted and tested.
    """
    doubts = () if range_doubt is None else (range_doubt,)
    errors = tuple(f for f in findings if f.level == "error")
    warnings = tuple(f for f in findings if f.level == "warning" and f is not range_doubt)
    if recommended is None:
        return Trust(level="no", headline=f"DO NOT USE: these runs support no prediction ({reason}).", reasons=errors)
    if errors:
        headline = f"DO NOT USE THIS ANSWER: {errors[0].message}"
        return Trust(level="no", headline=headline, reasons=(*errors, *doubts))
    if warnings or doubts:
        parts = [finding.message for finding in doubts]
        if warnings:
            kind = "other warning" if doubts else "warning"
            codes = ", ".join(dict.fromkeys(finding.code for finding in warnings))
            parts.append(f"{count_of(len(warnings), kind)} ({codes}).")
        return Trust(level="care", headline=f"Use with care: {' '.join(parts)}", reasons=(*doubts, *warnings))
    return Trust(
        level="ok",
        headline="No check found a reason to doubt these runs. The intervals show how sure the numbers are.",
        reasons=(),
    )
