"""Sections of the report: the one list that the HTML and `save_figures` are made from.

To add a figure, write a function from the fit to a matplotlib Figure and add one `FigureItem`; to add a table, a
function from `Evidence` to a `Table` and one `TableItem`. Both return None where the runs have nothing to show.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from flops_fit.files import replace_file
from flops_fit.fitting import ScalingLaws
from flops_fit.reporting.backtest_figure import backtest_figure
from flops_fit.reporting.canvas import figure_bytes, figure_style
from flops_fit.reporting.evidence import Evidence, Table
from flops_fit.reporting.isoflop_figure import isoflop_figure
from flops_fit.reporting.law_figures import d_opt_figure, loss_figure, n_opt_figure
from flops_fit.reporting.residual_figure import residual_figure
from flops_fit.reporting.run_tables import exclusion_table, provenance_table, rejection_table, run_table
from flops_fit.reporting.tables import (
    backtest_table,
    finding_table,
    law_table,
    parameter_count_table,
    parameter_table,
    prediction_table,
    unexcluded_table,
)


@dataclass(frozen=True, kw_only=True)
class FigureItem:
    """A figure of a section."""

    key: str
    """Name of its files; unique in `SECTIONS`."""
    make: Callable[[ScalingLaws], Figure | None]
    caption: str


@dataclass(frozen=True, kw_only=True)
class TableItem:
    """A table of a section."""

    make: Callable[[Evidence], Table | None]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it, in order."""

    key: str
    """Its anchor in the page; unique in `SECTIONS`."""
    title: str
    items: tuple[FigureItem | TableItem, ...]
    if_empty: str = ""
    """What stands there where no item has anything to show; without it the section is left out then."""


SECTIONS: tuple[Section, ...] = (
    Section(key="findings", title="Findings", items=(TableItem(make=finding_table),), if_empty="None."),
    Section(
        key="predictions",
        title="Predictions",
        if_empty="No law is recommended, so there are none.",
        items=(
            TableItem(
                make=prediction_table,
                caption="Statistical: what noise in the runs would give if the law were exactly right. Model-form: "
                "what the law's form adds, measured on the backtests.",
            ),
            FigureItem(
                key="n_opt",
                make=n_opt_figure,
                caption="Compute-optimal model size against training compute, by the recommended law.",
            ),
            FigureItem(
                key="d_opt",
                make=d_opt_figure,
                caption="Compute-optimal training data against training compute, by the recommended law.",
            ),
            FigureItem(
                key="loss",
                make=loss_figure,
                caption="Loss at the optimum against training compute, by the recommended law.",
            ),
        ),
    ),
    Section(
        key="isoflop",
        title="IsoFLOP curves",
        items=(
            FigureItem(
                key="isoflop",
                make=isoflop_figure,
                caption="Held-out loss against model size at each compute budget, with the parabola through the runs "
                "in its window and its minimum with interval. Hollow points are outside the window; a dotted parabola "
                "has no usable minimum.",
            ),
        ),
    ),
    Section(
        key="laws",
        title="Comparison of laws",
        items=(
            TableItem(make=law_table, caption="Exponents of N_opt ~ C^a and D_opt ~ C^b."),
            TableItem(
                make=parameter_table,
                caption="Parameters of L(N, D) = E + A/N^alpha + B/D^beta. The extended law is L = E + (T1^(1/k) + "
                "T2^(1/k))^k with ln T1 falling from log_A_at_centre by its local exponent in x = ln(N/centre_N), and "
                "ln T2 from log_B_at_centre by its own in y = ln(D/centre_D), plus h e^(-y/2); alpha and beta are the "
                "averages to which the local exponents return, and all are averages over its priors.",
            ),
            TableItem(
                make=parameter_count_table,
                caption="The same runs with N and C counted in other ways, fitted by windowed (Approach 3 near the "
                "optimum).",
            ),
            TableItem(
                make=unexcluded_table,
                caption="The same laws without excluding any run as an outlier or for repeated data.",
            ),
        ),
    ),
    Section(
        key="backtest",
        title="Backtests",
        if_empty="Not tested: there are too few budgets to hide any.",
        items=(
            FigureItem(
                key="backtest",
                make=backtest_figure,
                caption="Predictions of each law, fitted to the smaller budgets only, for the largest ones, against "
                "what was observed there. default: what would have been recommended each time, several laws together "
                "where that is far; ratio20: the rule D/N = 20; slope_half: the rule a = 1/2.",
            ),
            TableItem(make=backtest_table, caption="Covered: how often the interval contained the observed value."),
        ),
    ),
    Section(
        key="residuals",
        title="Residuals",
        items=(
            FigureItem(
                key="residuals",
                make=residual_figure,
                caption="Loss of every run relative to what the law expects at its N and D.",
            ),
        ),
    ),
    Section(key="runs", title="Runs", items=(TableItem(make=run_table),)),
    Section(key="excluded", title="Excluded runs", items=(TableItem(make=exclusion_table),), if_empty="None."),
    Section(
        key="rejected",
        title="Rejected (size, budget) pairs",
        items=(TableItem(make=rejection_table),),
    ),
    Section(key="provenance", title="Provenance", items=(TableItem(make=provenance_table),)),
)


@dataclass(frozen=True, kw_only=True)
class DrawnFigure:
    """A figure as the content of two files."""

    svg: bytes
    png: bytes | None = None


def draw(item: FigureItem, laws: ScalingLaws, *, png: bool = False) -> DrawnFigure | None:
    """Draws a figure, or None where these runs have nothing to show in it; the PNG only if asked, it is slow."""
    with figure_style():
        figure = item.make(laws)
        if figure is None:
            return None
        return DrawnFigure(svg=figure_bytes(figure, "svg"), png=figure_bytes(figure, "png") if png else None)


def save_figures(laws: ScalingLaws, directory: Path) -> tuple[Path, ...]:
    """Writes every figure into ``directory`` as SVG and PNG and returns the paths."""
    paths = []
    for item in figure_items():
        drawn = draw(item, laws, png=True)
        for suffix, data in () if drawn is None else (("svg", drawn.svg), ("png", drawn.png or b"")):
            path = directory / f"{item.key}.{suffix}"
            replace_file(path, data)
            paths.append(path)
    return tuple(paths)


def figure_items() -> Iterator[FigureItem]:
    """Every figure, in the report's order."""
    return (item for section in SECTIONS for item in section.items if isinstance(item, FigureItem))
