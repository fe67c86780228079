"""What the laws get wrong: residuals of every run, and errors on budgets that were hidden."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flops_fit.fitting import BacktestRow, ScalingLaws, surface_methods
from flops_fit.quantities import count_of
from flops_fit.reporting.canvas import (
    BLUE,
    GREY,
    INK,
    MARKERS,
    ORANGE,
    count_axis,
    factor_axis,
    flops_axis,
    light_grid,
    new_figure,
)
from flops_fit.reporting.wording import law_title


def residual_figure(laws: ScalingLaws) -> Figure | None:
    """How far each run's loss is from the law's, against C and N; None where no law has an L(N, D)."""
    name = residual_law(laws)
    expected = None if name is None else laws.loss_at(laws.runs.num_params, laws.runs.num_tokens, law=name)
    if name is None or expected is None:
        return None
    residual = 100 * (laws.runs.loss / expected[0] - 1)
    figure = new_figure(7.2, 3.0)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, column in ((left, laws.runs.compute), (right, laws.runs.num_params)):
        axes.set_xscale("log")
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.plot(column, residual, "o", color=BLUE, markersize=3.5, alpha=0.8, markeredgewidth=0)
        light_grid(axes)
    left.set_ylabel("loss above the law (%)")
    left.set_xlabel("training compute C (FLOPs)")
    right.set_xlabel("model size N (parameters)")
    flops_axis(left.xaxis, 4)
    count_axis(right.xaxis, 5)
    left.set_title(f"residuals of: {law_title(name)}", loc="left", fontsize=9)
    return figure


def residual_law(laws: ScalingLaws) -> str | None:
    """The recommended law where it has an L(N, D), else the first that has."""
    names = [laws.recommended, *surface_methods()] if laws.recommended else list(surface_methods())
    n, d = laws.runs.num_params[:1], laws.runs.num_tokens[:1]
    for name in names:
        if name in laws.methods and laws.loss_at(n, d, law=name) is not None:
            return name
    return None


def backtest_figure(laws: ScalingLaws) -> Figure | None:
    """Predicted over observed N_opt and loss of hidden budgets, per law; None without backtests."""
    rows = laws.backtest
    if not rows:
        return None
    names = list(dict.fromkeys(r.law for r in rows))
    figure = new_figure(7.2, 1.4 + 0.32 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    for row in rows:
        _draw_row(left, names, row, row.log_n_opt_error, row.n_opt_covered)
        _draw_row(right, names, row, row.log_loss_error, row.loss_covered)
    left.set_xscale("log")
    low, high = left.get_xlim()
    reach = max(abs(np.log(low)), abs(np.log(high)), np.log(1.3))
    left.set_xlim(np.exp(-reach), np.exp(reach))
    factor_axis(left.xaxis)
    for axes, neutral in ((left, 1.0), (right, 0.0)):
        axes.axvline(neutral, color=GREY, linewidth=0.8, zorder=0)
        light_grid(axes)
    left.set_yticks(range(len(names)), [law_title(n) for n in names])
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_xlabel("predicted / observed optimal N")
    right.set_xlabel("loss, predicted above observed (%)")
    handles = [
        left.plot([], [], MARKERS[h - 1], color=INK, linestyle="", label=f"{count_of(h, 'top budget')} hidden")[0]
        for h in sorted({r.hidden for r in rows})
    ]
    handles.append(left.plot([], [], "o", color=ORANGE, linestyle="", label="outside its interval")[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _draw_row(axes: Axes, names: list[str], row: BacktestRow, error: float | None, covered: bool | None) -> None:
    if error is None:
        return
    value = np.exp(error) if axes.get_subplotspec().colspan.start == 0 else 100 * np.expm1(error)  # type: ignore[union-attr]
    color = GREY if covered is None else BLUE if covered else ORANGE
    offset = 0.22 * (row.hidden - 2)
    axes.plot(value, names.index(row.law) + offset, MARKERS[row.hidden - 1], color=color, markersize=5, linestyle="")
