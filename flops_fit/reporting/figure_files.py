"""Every figure of a fit, in the report's order, drawn and written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from flops_fit.files import replace_file
from flops_fit.fitting import ScalingLaws
from flops_fit.reporting.canvas import figure_bytes, figure_style
from flops_fit.reporting.check_figures import backtest_figure, residual_figure
from flops_fit.reporting.figures import isoflop_figure
from flops_fit.reporting.law_figures import d_opt_figure, loss_figure, n_opt_figure

FIGURES: dict[str, Callable[[ScalingLaws], Figure | None]] = {
    "isoflop": isoflop_figure,
    "n_opt": n_opt_figure,
    "d_opt": d_opt_figure,
    "loss": loss_figure,
    "backtest": backtest_figure,
    "residuals": residual_figure,
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure as the content of two files."""

    name: str
    svg: bytes
    png: bytes | None = None


def draw(laws: ScalingLaws, *, png: bool = False) -> Iterator[Drawing]:
    """Draws each figure that these runs have something to show in; the PNG only if asked, it is slow."""
    for name, make in FIGURES.items():
        with figure_style():
            figure = make(laws)
            if figure is None:
                continue
            svg = figure_bytes(figure, "svg")
            yield Drawing(name=name, svg=svg, png=figure_bytes(figure, "png") if png else None)


def save_figures(laws: ScalingLaws, directory: Path) -> tuple[Path, ...]:
    """Writes every figure into ``directory`` as SVG and PNG and returns the paths."""
    paths = []
    for drawing in draw(laws, png=True):
        for suffix, data in (("svg", drawing.svg), ("png", drawing.png)):
            path = directory / f"{drawing.name}.{suffix}"
            replace_file(path, data or b"")
            paths.append(path)
    return tuple(paths)
