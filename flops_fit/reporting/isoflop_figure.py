"""IsoFLOP curves: loss against model size at each budget, with parabolas and their minima."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flops_fit.fitting import IsoflopCurve, ScalingLaws
from flops_fit.quantities import count_of, format_flops, format_loss
from flops_fit.records import FloatArray
from flops_fit.reporting.canvas import GREY, INK, MARKERS, VERMILION, count_axis, escape_math, light_grid, new_figure
from flops_fit.reporting.formatting import singular

MAX_LEGEND = 12
MIN_SIZES = 3
"""Runs of budgets with fewer sizes form no curve and are drawn in grey."""


def isoflop_figure(laws: ScalingLaws) -> Figure:
    """Loss against N at every budget, with parabolas and their minima."""
    figure = new_figure()
    axes = figure.add_subplot()
    axes.set_xscale("log")
    curves = [c for c in laws.isoflop_curves if len(c.num_params) >= MIN_SIZES]
    loose = [c for c in laws.isoflop_curves if len(c.num_params) < MIN_SIZES]
    colors = _budget_colors(len(curves))
    for curve in loose:
        axes.plot(curve.num_params, curve.loss, ".", color=GREY, alpha=0.5, markersize=5, linestyle="", zorder=1)
    for index, curve in enumerate(curves):
        _draw_curve(axes, curve, colors[index], MARKERS[index % len(MARKERS)])
    axes.set_xlabel("model size N (parameters)")
    axes.set_ylabel(f"loss (nats per {escape_math(singular(laws.runs.data_unit))})")
    _limit_loss(axes, np.concatenate([c.loss for c in laws.isoflop_curves]))
    count_axis(axes.xaxis)
    light_grid(axes)
    shown = range(len(curves) - 1, -1, -max(1, -(-len(curves) // MAX_LEGEND)))
    handles = [
        Line2D([], [], color=colors[i], marker=MARKERS[i % len(MARKERS)], markersize=4.5,
               label=format_flops(curves[i].compute_budget))
        for i in shown
    ]  # fmt: skip
    if loose:
        handles.append(Line2D([], [], linestyle="", marker=".", color=GREY, alpha=0.5, label="budget of 1 or 2 sizes"))
    if any((c.in_window == 0).any() for c in curves):
        handles.append(
            Line2D([], [], linestyle="", marker="o", color=GREY, markerfacecolor="white", label="outside window")
        )
    if any(c.n_opt is not None for c in curves):
        handles.append(Line2D([], [], linestyle="", marker="*", markersize=9, color=INK, label="minimum"))
    if any(c.n_opt is None for c in curves):
        handles.append(Line2D([], [], linestyle="", marker="x", color=VERMILION, label="no usable minimum"))
    figure.legend(handles=handles, loc="outside right upper", title="C (FLOPs)" if curves else None)
    return figure


def _draw_curve(axes: Axes, curve: IsoflopCurve, color: str, marker: str) -> None:
    inside = curve.in_window > 0
    axes.plot(curve.num_params[inside], curve.loss[inside], marker, color=color, markersize=4.5, linestyle="")
    axes.plot(
        curve.num_params[~inside], curve.loss[~inside], marker, color=color, markersize=4.5, linestyle="",
        markerfacecolor="white",
    )  # fmt: skip
    # A parabola that bends downwards has no minimum; between distant sizes it leaves the data.
    if curve.coefficients is not None and curve.coefficients[0] > 0 and inside.any():
        n = np.geomspace(curve.num_params[inside].min(), curve.num_params[inside].max(), 80)
        style = "-" if curve.n_opt is not None else ":"
        axes.plot(n, np.polyval(curve.coefficients, np.log(n)), style, color=color, linewidth=1.2)
    if curve.n_opt is not None and curve.loss_opt is not None:
        bounds = [[curve.n_opt.value - curve.n_opt.low], [curve.n_opt.high - curve.n_opt.value]]
        axes.errorbar(
            curve.n_opt.value, curve.loss_opt.value, xerr=np.maximum(bounds, 0.0), fmt="*", markersize=9, color=color,
            markeredgecolor=INK, markeredgewidth=0.6, ecolor=INK, elinewidth=0.9, capsize=2, zorder=5,
        )  # fmt: skip
    else:
        best = int(np.argmin(curve.loss))
        axes.plot(curve.num_params[best], curve.loss[best], "x", color=VERMILION, markersize=10, zorder=5)


def _limit_loss(axes: Axes, loss: FloatArray) -> None:
    """Keeps a few far losses from flattening all curves; how many are cut off is written on the figure."""
    low, high = float(loss.min()), float(np.quantile(loss, 0.95))
    top = high + 0.5 * (high - low)
    above = int((loss > top).sum())
    if above:
        margin = 0.05 * (top - low)
        axes.set_ylim(low - margin, top)
        axes.text(
            0.02, 0.98, f"{count_of(above, 'point')} above {format_loss(top)} not shown", transform=axes.transAxes,
            color=GREY, fontsize=8, va="top",
        )  # fmt: skip


def _budget_colors(count: int) -> list[str]:
    """Dark to light with the budget, up to the last colour that is legible on white."""
    palette = mpl.colormaps["viridis"]
    return [mpl.colors.to_hex(palette(0.85 * i / max(count - 1, 1))) for i in range(count)]
