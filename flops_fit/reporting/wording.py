"""How are laws, numbers and their intervals written in tables, figures and reports?"""

from collections.abc import Callable

from flops_fit.fitting import Estimate, method_title
from flops_fit.quantities import format_count
from flops_fit.records import Interval


def law_title(name: str) -> str:
    """Writes a law's or a baseline's name for people."""
    return method_title(name)


def format_loss(value: float | None) -> str:
    """Writes a loss with four digits: "2.345"; None as "-"."""
    return "-" if value is None else f"{value:.4g}"


def format_number(value: float | None) -> str:
    """Writes a fitted number with three digits; large ones as a count, None as "-"."""
    if value is None:
        return "-"
    return format_count(value) if 1e3 <= abs(value) < 1e18 else f"{value:.3g}".replace("e+", "e").replace("e-0", "e-")


def format_factor(value: float) -> str:
    """Writes a factor: 1.04 as "1.04x", 3.14 as "3.1x", 13.4 as "13x", 2e6 as "2.0e6x"."""
    if value >= 1e4:
        return f"{value:.1e}x".replace("e+0", "e").replace("e+", "e")
    if value >= 9.95:
        return f"{value:.0f}x"
    return f"{value:.2g}x" if value >= 1.995 else f"{value:.3g}x"


def format_bounds(low: float, high: float, write: Callable[[float], str]) -> str:
    """Writes an interval: "[1.2B, 3.4B]"."""
    return f"[{write(low)}, {write(high)}]"


def format_estimate(estimate: Estimate, write: Callable[[float], str]) -> str:
    """Writes a predicted number with its interval: "2B [1.2B, 3.4B]"."""
    return f"{write(estimate.value)} {format_bounds(*estimate.interval, write)}"


def format_fitted(interval: Interval | None, write: Callable[[float], str] = format_number) -> str:
    """Writes a fitted number with its interval; None as "-"."""
    if interval is None:
        return "-"
    return f"{write(interval.value)} {format_bounds(interval.low, interval.high, write)}"
