"""Backtests: what each law predicted for the largest budgets from the smaller ones, against what was observed."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flops_fit.fitting import ScalingLaws
from flops_fit.quantities import count_of
from flops_fit.reporting.canvas import BLUE, GREY, INK, MARKERS, ORANGE, factor_axis, light_grid, new_figure
from flops_fit.reporting.formatting import backtested_names


def backtest_figure(laws: ScalingLaws) -> Figure | None:
    """Predicted over observed N_opt and loss of held-out budgets, per law; None without backtests."""
    rows = laws.backtest
    if not rows:
        return None
    names = backtested_names(laws)
    figure = new_figure(7.2, 1.4 + 0.32 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    for row in rows:
        position = names.index(row.law) + 0.22 * (row.hidden - 2)
        if row.log_n_opt_error is not None:
            _draw_point(left, float(np.exp(row.log_n_opt_error)), position, row.hidden, row.n_opt_covered)
        if row.log_loss_error is not None:
            _draw_point(right, float(100 * np.expm1(row.log_loss_error)), position, row.hidden, row.loss_covered)
    left.set_xscale("log")
    low, high = left.get_xlim()
    reach = max(abs(np.log(low)), abs(np.log(high)), np.log(1.3))
    left.set_xlim(np.exp(-reach), np.exp(reach))
    factor_axis(left.xaxis)
    for axes, neutral in ((left, 1.0), (right, 0.0)):
        axes.axvline(neutral, color=GREY, linewidth=0.8, zorder=0)
        light_grid(axes)
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_xlabel("predicted / observed optimal N")
    right.set_xlabel("predicted loss relative to observed (%)")
    handles = [
        left.plot([], [], MARKERS[h - 1], color=INK, linestyle="", label=f"{count_of(h, 'budget')} hidden")[0]
        for h in sorted({r.hidden for r in rows})
    ]
    handles.append(left.plot([], [], "o", color=ORANGE, linestyle="", label="outside its interval")[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _draw_point(axes: Axes, value: float, position: float, hidden: int, covered: bool | None) -> None:
    color = GREY if covered is None else BLUE if covered else ORANGE
    axes.plot(value, position, MARKERS[hidden - 1], color=color, markersize=5, linestyle="")
