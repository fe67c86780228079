"""Residuals: the loss of every run against what a law of L(N, D) expects there."""

from matplotlib.figure import Figure

from flops_fit.fitting import ScalingLaws, surface_methods
from flops_fit.reporting.canvas import BLUE, GREY, count_axis, flops_axis, light_grid, new_figure


def residual_figure(laws: ScalingLaws) -> Figure | None:
    """Relative residual of each run's loss, against C and N; None where no law has an L(N, D)."""
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
    left.set_ylabel("loss relative to the law (%)")
    left.set_xlabel("training compute C (FLOPs)")
    right.set_xlabel("model size N (parameters)")
    flops_axis(left.xaxis, 4)
    count_axis(right.xaxis, 5)
    left.set_title(f"residuals of {name}", loc="left", fontsize=9)
    return figure


def residual_law(laws: ScalingLaws) -> str | None:
    """The recommended law where it has an L(N, D), else the first that has."""
    names = [laws.recommended, *surface_methods()] if laws.recommended else list(surface_methods())
    n, d = laws.runs.num_params[:1], laws.runs.num_tokens[:1]
    for name in names:
        if name in laws.methods and laws.loss_at(n, d, law=name) is not None:
            return name
    return None
