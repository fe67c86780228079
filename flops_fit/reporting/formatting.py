"""Names of methods, and fitted numbers with their intervals, as text; plain numbers are written by `quantities`."""

from collections.abc import Callable

from flops_fit.fitting import Estimate, Prediction, ScalingLaws
from flops_fit.quantities import format_interval, format_number
from flops_fit.records import Interval


def backtested_names(laws: ScalingLaws) -> list[str]:
    """Laws in the order of the fit, then the default and the baselines, of those that were backtested."""
    tested = dict.fromkeys(r.law for r in laws.backtest)
    return [*(name for name in laws.laws if name in tested), *(name for name in tested if name not in laws.laws)]


def format_estimate(estimate: Estimate, write: Callable[[float], str]) -> str:
    """Writes a predicted number with its interval: "2B [1.2B, 3.4B]"."""
    return f"{write(estimate.value)} {format_interval(*estimate.interval, write)}"


def format_fitted(interval: Interval | None, write: Callable[[float], str] = format_number) -> str:
    """Writes a fitted number with its interval; None as "-"."""
    if interval is None:
        return "-"
    return f"{write(interval.value)} {format_interval(interval.low, interval.high, write)}"


def singular(unit: str) -> str:
    """The unit of one datum: "token" for "tokens"."""
    return unit[:-1] if unit.endswith("s") and len(unit) > 1 else unit


def slope_note(laws: ScalingLaws, prediction: Prediction) -> str:
    """The slope that a prediction uses, beside the exponent of the sweep."""
    law = None if laws.recommended is None else laws.laws[laws.recommended]
    inside = "" if law is None or law.a is None else f", where the sweep's a is {law.a.value:.3f}"
    return f"N_opt grows as C^{prediction.exponent:.3f}{inside}."


def rule_note(laws: ScalingLaws) -> str:
    """That D/N = 20 is no rule for these data; empty for tokens."""
    unit = laws.runs.data_unit
    return "" if unit == "tokens" else f" D/N = 20 is a rule for text, and D counts {unit} here."
