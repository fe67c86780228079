"""Number formats: one for each kind of number, used in text, tables, figures and HTML.

| kind | function | examples |
|---|---|---|
| count of parameters, tokens | `format_count` | 7.04B, 64k, 512 |
| count of things | `count_of` | 1 run, 1,234 runs |
| FLOPs | `format_flops` | 1.00e18 |
| loss | `format_loss` | 2.345, four digits |
| factor | `format_factor` | 1.04x, 3.1x, 8x, 13x, 2.0e6x |
| share | `format_percent` | 90%, 0.42% |
| duration | `format_seconds` | 42 s, 12 min, 3.5 h |
| memory | `format_bytes` | 6.9 MB, 24 GB |
| any other fitted number | `format_number` | 0.431, 12.0, 5.59k, three digits |
| interval of any of these | `format_interval` | [1.2B, 3.4B] |

An absent number is written "-".
"""

import math
from collections.abc import Callable

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


def format_loss(value: float | None) -> str:
    """Writes a loss with four digits: "2.345", "2.000"; None as "-"."""
    return "-" if value is None else _digits(value, 4)


def format_number(value: float | None) -> str:
    """Writes a fitted number with three digits: "0.400"; large ones as a count, None as "-"."""
    if value is None:
        return "-"
    return format_count(value) if 1e3 <= abs(value) < 1e18 else _digits(value, 3)


def format_factor(value: float) -> str:
    """Writes a factor: 1.04 as "1.04x", 3.14 as "3.1x", 13.4 as "13x", 2e6 as "2.0e6x"."""
    if value >= 1e4:
        return f"{_short_exponent(f'{value:.1e}')}x"
    if value >= 9.95:
        return f"{value:.0f}x"
    # Near 1 a third digit, because there the difference from 1 counts.
    return f"{value:.3g}x" if 0.9 <= value < 1.995 else f"{value:.2g}x"


def format_percent(share: float) -> str:
    """Writes a share of 1: 0.9 as "90%", 0.0042 as "0.42%"."""
    return f"{100 * share:.3g}%"


def format_bytes(value: float) -> str:
    """Writes memory in decimal units: 6.92e6 as "6.9 MB", 24e9 as "24 GB"."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= 0.995 * scale:
            return f"{value / scale:.2g} {unit}" if value < 99.5 * scale else f"{value / scale:.0f} {unit}"
    return f"{value:.0f} B"


def format_seconds(seconds: float | None) -> str:
    """Writes a duration as "42 s", "12 min" or "3.5 h"; None as "-"."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def format_interval(low: float, high: float, write: Callable[[float], str]) -> str:
    """Writes an interval, its ends by ``write``: "[1.2B, 3.4B]"."""
    return f"[{write(low)}, {write(high)}]"


def count_of(number: int, noun: str) -> str:
    """Writes "1 run" or "3 runs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def log_spaced(low: float, high: float, count: int) -> list[float]:
    """Returns ``count`` numbers from ``low`` to ``high``, evenly spaced in log, ends exact."""
    if count == 1:
        return [low]
    step = (math.log(high) - math.log(low)) / (count - 1)
    return [low, *(math.exp(math.log(low) + i * step) for i in range(1, count - 1)), high]


def _digits(value: float, digits: int) -> str:
    """So many significant digits, trailing zeros kept, so that numbers below each other line up."""
    return _short_exponent(f"{value:#.{digits}g}".rstrip(".").replace(".e", "e"))


def _short_exponent(text: str) -> str:
    return text.replace("e+", "e").replace("e0", "e").replace("e-0", "e-")
