"""Optimal N, optimal D and loss against compute: the recommended law beside the observed minima."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flops_fit.fitting import ScalingLaws
from flops_fit.quantities import format_percent
from flops_fit.records import FloatArray, Interval
from flops_fit.reporting.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    count_axis,
    escape_math,
    flops_axis,
    light_grid,
    new_figure,
)
from flops_fit.reporting.formatting import singular

REACH = 100.0
"""Figures extend to this many times the largest fitted budget, as the table does."""

Band = tuple[FloatArray, FloatArray, FloatArray]


def n_opt_figure(laws: ScalingLaws) -> Figure:
    """Optimal N against C, with its band, the D/N = 20 rule and each budget's own minimum."""
    minima = [(c.compute_budget, c.n_opt) for c in laws.isoflop_curves]
    figure, axes = _law_axes(laws, laws.n_opt_band, minima)
    _draw_ratio_rule(axes, laws, lambda rule: rule.num_params)
    axes.set_ylabel("optimal model size N (parameters)")
    return _finish(figure, axes)


def d_opt_figure(laws: ScalingLaws) -> Figure:
    """Optimal D against C, with its band, the D/N = 20 rule and each budget's own minimum."""
    minima = [(c.compute_budget, c.d_opt) for c in laws.isoflop_curves]
    figure, axes = _law_axes(laws, laws.d_opt_band, minima)
    _draw_ratio_rule(axes, laws, lambda rule: rule.num_tokens)
    axes.set_ylabel(f"optimal training data D ({escape_math(laws.runs.data_unit)})")
    return _finish(figure, axes)


def loss_figure(laws: ScalingLaws) -> Figure:
    """Loss at the optimum against C, with its band."""
    minima = [(c.compute_budget, c.loss_opt) for c in laws.isoflop_curves]
    figure, axes = _law_axes(laws, laws.loss_band, minima)
    axes.set_ylabel(f"loss at the optimum (nats per {escape_math(singular(laws.runs.data_unit))})")
    return _finish(figure, axes, log_y=False)


def _law_axes(
    laws: ScalingLaws, band_of: Callable[[FloatArray], Band], minima: list[tuple[float, Interval | None]]
) -> tuple[Figure, Axes]:
    figure = new_figure()
    axes = figure.add_subplot()
    axes.set_xscale("log")
    compute = _compute_range(laws, REACH)
    if laws.recommended is not None:
        value, low, high = band_of(compute)
        level = f"{format_percent(laws.options.level)} interval"
        axes.fill_between(compute, low, high, color=BLUE, alpha=0.18, linewidth=0, label=level)
        axes.plot(compute, value, color=BLUE, label=laws.recommended, gid="law")
    known = [(c, m) for c, m in minima if m is not None]
    if known:
        budgets = np.array([c for c, _ in known])
        value, low, high = (np.array([getattr(m, part) for _, m in known]) for part in ("value", "low", "high"))
        axes.errorbar(
            budgets, value, yerr=np.maximum([value - low, high - value], 0.0), fmt="o", color=INK, markersize=4,
            elinewidth=0.9, capsize=2, zorder=5, label="IsoFLOP minimum",
        )  # fmt: skip
    _shade_extrapolation(axes, laws, float(compute[-1]))
    axes.set_xlim(compute[0], compute[-1])
    axes.set_xlabel("training compute C (FLOPs)")
    return figure, axes


def _shade_extrapolation(axes: Axes, laws: ScalingLaws, end: float) -> None:
    axes.axvspan(laws.max_compute, end, color=PALE, zorder=0, label="extrapolation")
    tested = laws.max_compute * laws.tested_factor
    if laws.max_compute < tested < end:
        axes.axvline(tested, color=GREY, linewidth=0.8, linestyle=":", label="reach of the backtests")


def _draw_ratio_rule(axes: Axes, laws: ScalingLaws, pick: Callable[..., float]) -> None:
    if laws.recommended is None:
        return
    compute = np.geomspace(laws.min_compute, REACH * laws.max_compute, 9)
    rule = [pick(laws.baseline(float(c))) for c in compute]
    axes.plot(compute, rule, color=ORANGE, linestyle="--", linewidth=1.2, label="rule D/N = 20")


def _finish(figure: Figure, axes: Axes, *, log_y: bool = True) -> Figure:
    flops_axis(axes.xaxis)
    if log_y:
        axes.set_yscale("log")
        count_axis(axes.yaxis)
    light_grid(axes)
    axes.legend(loc="best")
    return figure


def _compute_range(laws: ScalingLaws, reach: float) -> FloatArray:
    """C from the smallest fitted budget to ``reach`` times the largest, shape (m,), with that largest in it."""
    low = min(float(laws.runs.compute_budget.min()), laws.max_compute)
    inside = np.geomspace(low / 1.3, laws.max_compute, 40)
    return np.concatenate([inside, np.geomspace(laws.max_compute, reach * laws.max_compute, 41)[1:]])
