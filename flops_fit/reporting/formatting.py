"""Names of methods, and fitted numbers with their intervals, as text; plain numbers are written by `quantities`."""

from collections.abc import Callable

from flops_fit.fitting import Estimate, ScalingLaws
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
