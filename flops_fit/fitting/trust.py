"""Trust: whether an answer can be used, and why not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flops_fit.quantities import count_of
from flops_fit.records import Finding

BASELINE_CODE = "baseline_as_good"
"""The finding that a rule of thumb did as well in the backtests; the headline states it."""
TrustLevel = Literal["ok", "care", "no"]


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What a reader must know before any number."""

    level: TrustLevel
    """"no": do not use the answer; "care": use it with care; "ok": no check found a reason to doubt it."""
    headline: str
    """One or a few sentences."""
    reasons: tuple[Finding, ...]
    """The findings behind it: first what the headline states of a target, unless errors outweigh it."""

    def to_plain(self) -> dict[str, Any]:
        """The ``trust`` object of ``--json``."""
        reasons = [{"code": f.code, "message": f.message} for f in self.reasons]
        return {"level": self.level, "headline": self.headline, "reasons": reasons}


def judge(
    findings: Sequence[Finding], *, recommended: str | None, reason: str, leading: tuple[Finding, ...] = ()
) -> Trust:
    """Judges an answer: "no" without a law or with an error, "care" with a warning or a leading doubt.

    The findings are those of the fit, and of a prediction where one is judged; ``leading`` are those of a prediction,
    of any level, that its headline must state: it lies outside what was fitted and tested, or the methods are far apart
    there. ``recommended`` is the law to use, None where there is none, and ``reason`` why.
    """
    errors = tuple(f for f in findings if f.level == "error")
    warnings = tuple(f for f in findings if f.level == "warning" and f not in leading)
    if recommended is None:
        return Trust(level="no", headline=f"DO NOT USE: these runs support no prediction ({reason}).", reasons=errors)
    if errors:
        headline = f"DO NOT USE THIS ANSWER: {errors[0].message}"
        return Trust(level="no", headline=headline, reasons=(*errors, *leading))
    rules = " ".join(f.message for f in findings if f.code == BASELINE_CODE)
    if warnings or leading:
        parts = [finding.message for finding in leading]
        if warnings:
            kind = "other warning" if leading else "warning"
            codes = ", ".join(dict.fromkeys(finding.code for finding in warnings))
            parts.append(f"{count_of(len(warnings), kind)} ({codes}).")
        headline = f"Use with care: {' '.join(parts)} {rules}".rstrip()
        return Trust(level="care", headline=headline, reasons=(*leading, *warnings))
    sure = "No check found a reason to doubt these runs. The intervals show how sure the numbers are."
    return Trust(level="ok", headline=f"{sure} {rules}".rstrip(), reasons=())
