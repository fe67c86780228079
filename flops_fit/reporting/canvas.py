"""Canvas of all figures: their look, their log axes, and bytes that are the same on every rerun."""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from flops_fit.quantities import format_count, format_factor

# Okabe & Ito 2008, which colour-blind readers can distinguish.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
INK, GREY, PALE = "#222222", "#6b6b6b", "#f1f1f1"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
WIDTH, HEIGHT = 6.4, 4.0
MAX_TICKS = 7
FACTORS = (1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0, 1e3, 1e6)
STYLE: dict[str, Any] = {
    "svg.hashsalt": "flops-fit",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.5,
    "figure.facecolor": "white",
    "savefig.dpi": 150,
    "axes.unicode_minus": False,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Applies the look of all figures, whatever the user's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        cast(Any, mpl.rcParams).update(STYLE)  # its stubs want literal keys
        yield


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> Figure:
    """An empty figure in inches, which keeps its labels inside."""
    return Figure(figsize=(width, height), layout="constrained")


def figure_bytes(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    """The figure as a file's content, without a date."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": "flops-fit"} if kind == "svg" else {"Software": "flops-fit"}
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def escape_math(text: str) -> str:
    """Keeps matplotlib from reading formulas in names that users gave."""
    return text.replace("$", r"\$")


def flops_axis(axis: Axis, max_ticks: int = MAX_TICKS) -> None:
    """Log ticks such as 10^18 and 3 x 10^18 over the axis's limits."""
    _log_axis(axis, power_label, max_ticks)


def count_axis(axis: Axis, max_ticks: int = MAX_TICKS) -> None:
    """Log ticks such as 2k, 1M, 70B over the axis's limits."""
    _log_axis(axis, format_count, max_ticks)


def factor_axis(axis: Axis) -> None:
    """Log ticks at 1 and at the same factors below and above it: 0.5x, 1x, 2x."""
    reach = float(max(axis.get_view_interval()))
    wide = max((f for f in FACTORS if f <= reach), default=FACTORS[0])
    # Between 1 and a factor below 2 there is no room for another label.
    above = [max(f for f in FACTORS if f <= wide**0.6), wide] if wide >= 2 else [wide]
    labels = {f: format_factor(f) for f in (*(1 / f for f in reversed(above)), 1.0, *above)}
    axis.set_major_locator(FixedLocator(list(labels)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: labels.get(float(value), "")))
    axis.set_minor_locator(NullLocator())


def light_grid(axes: Axes) -> None:
    """Thin lines behind the data."""
    axes.grid(True, which="major", color="#e4e4e4", linewidth=0.6)


def log_ticks(low: float, high: float, max_ticks: int = MAX_TICKS) -> list[float]:
    """At most ``max_ticks`` round numbers from ``low`` to ``high``, as even in log as can be."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for stride in (1, 2, 3, 5, 10, 20):
        digit_sets = ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)) if stride == 1 else ((1,),)
        for digits in digit_sets:
            ticks = [float(f"{d}e{p}") for p in range(first, last + 1) if p % stride == 0 for d in digits]
            ticks = [t for t in ticks if low * 0.999 <= t <= high * 1.001]
            if len(ticks) <= max_ticks:
                return ticks
    return []


def power_label(value: float) -> str:
    """Writes 3e18 as mathtext."""
    power = math.floor(math.log10(value) + 1e-9)
    digit = round(value / 10.0**power, 1)
    return rf"$10^{{{power}}}$" if digit == 1 else rf"${digit:g}{{\times}}10^{{{power}}}$"


def _log_axis(axis: Axis, label: Callable[[float], str], max_ticks: int) -> None:
    low, high = sorted(axis.get_view_interval())
    ticks = log_ticks(float(low), float(high), max_ticks)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(float(value))))
    decades = math.log10(high / low)
    axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10)), numticks=100) if decades < 8 else NullLocator())
    axis.set_minor_formatter(NullFormatter())
