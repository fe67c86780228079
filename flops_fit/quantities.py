"""How are counts, FLOPs and durations written, everywhere?"""

import math

_SUFFIXES = ((1e15, "Q"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def format_count(value: float | None) -> str:
    """Writes a count with an SI-like suffix: 7.04e9 as "7.04B"; None as "-"."""
    if value is None or not math.isfinite(value):
        return "-"
    for scale, suffix in _SUFFIXES:
        # 0.9995 keeps 999_950 from being written as "1000k".
        if abs(value) >= 0.9995 * scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}"


def format_flops(value: float | None) -> str:
    """Writes FLOPs in scientific notation: 1e+18 as "1.00e18"."""
    return "-" if value is None else f"{value:.2e}".replace("e+", "e").replace("e0", "e")


def format_seconds(seconds: float | None) -> str:
    """Writes a duration as "42 s", "12 min" or "3.5 h"; None as "-"."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count_of(number: int, noun: str) -> str:
    """Writes "1 run" or "3 runs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def log_spaced(low: float, high: float, count: int) -> list[float]:
    """Returns ``count`` numbers from ``low`` to ``high``, evenly spaced in log, ends exact."""
    if count == 1:
        return [low]
    step = (math.log(high) - math.log(low)) / (count - 1)
    return [low, *(math.exp(math.log(low) + i * step) for i in range(1, count - 1)), high]
