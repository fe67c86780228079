"""The evidence as pictures: one function per figure, each from a fit to a matplotlib Figure."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flops_fit.fitting import IsoflopCurve, ScalingLaws
from flops_fit.quantities import format_flops
from flops_fit.records import FloatArray
from flops_fit.reporting.canvas import GREY, INK, MARKERS, VERMILION, count_axis, escape_math, light_grid, new_figure

MAX_LEGEND = 12
MIN_SIZES = 3
"""Budgets with fewer sizes are no curve; their runs are drawn in grey."""


def isoflop_figure(laws: ScalingLaws) -> Figure:
    """Loss against N at every budget, with parabolas and their minima."""
    figure = new_figure()
    axes = figure.add_subplot()
    axes.set_xscale("log")
    curves = [c for c in laws.isoflop_curves if len(c.num_params) >= MIN_SIZES]
    loose = [c for c in laws.isoflop_curves if len(c.num_params) < MIN_SIZES]
    colors = budget_colors(len(curves))
    for curve in loose:
        axes.plot(curve.num_params, curve.loss, ".", color=GREY, alpha=0.5, markersize=5, linestyle="", zorder=1)
    for index, curve in enumerate(curves):
        _draw_curve(axes, curve, colors[index], MARKERS[index % len(MARKERS)])
    axes.set_xlabel("model size N (parameters)")
    axes.set_ylabel(f"loss (nats per {escape_math(singular(laws.runs.data_unit))})")
    count_axis(axes.xaxis)
    light_grid(axes)
    shown = range(len(curves) - 1, -1, -max(1, -(-len(curves) // MAX_LEGEND)))
    handles = [
        Line2D([], [], color=colors[i], marker=MARKERS[i % len(MARKERS)], markersize=4.5,
               label=format_flops(curves[i].compute_budget))
        for i in shown
    ]  # fmt: skip
    if loose:
        handles.append(Line2D([], [], linestyle="", marker=".", color=GREY, alpha=0.5, label="budgets of 1 or 2 sizes"))
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
    # One that bends downwards has no minimum, and between far sizes it leaves the data.
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


def budget_colors(count: int) -> list[str]:
    """Dark to light with the budget; stops before the yellow that white paper swallows."""
    palette = mpl.colormaps["viridis"]
    return [mpl.colors.to_hex(palette(0.85 * i / max(count - 1, 1))) for i in range(count)]


def singular(unit: str) -> str:
    """The unit of one datum: "token" for "tokens"."""
    return unit[:-1] if unit.endswith("s") and len(unit) > 1 else unit


def compute_range(laws: ScalingLaws, reach: float) -> FloatArray:
    """C from the smallest fitted budget to ``reach`` times the largest, shape (m,), with that largest in it."""
    low = min(float(laws.runs.compute_budget.min()), laws.max_compute)
    inside = np.geomspace(low / 1.3, laws.max_compute, 40)
    return np.concatenate([inside, np.geomspace(laws.max_compute, reach * laws.max_compute, 41)[1:]])
