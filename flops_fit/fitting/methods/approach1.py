"""Approach 1: the sizes on the lower envelope of all runs (Hoffmann et al. 2022, section 3.1).

The lower convex hull of ln loss against ln C, as in Gemstones (arXiv:2502.06857), which one lucky run moves less
than the running minimum. Only finished runs enter: a run whose schedule was set for more tokens is left out where
the table states it (`inputs/exclusions.py`). Nothing is interpolated between sizes, so N_opt is quantised to the
grid; the method serves for comparison, and backtests show how well it does.
"""

from dataclasses import replace

import numpy as np

from flops_fit.fitting.inputs.log_runs import FEW_RUNS, IntArray, LogRuns, lower_hull
from flops_fit.fitting.methods.method import FitInputs
from flops_fit.fitting.methods.optimum_line import LineMethod, draw_line
from flops_fit.fitting.methods.result import LawFit, refused_law
from flops_fit.fitting.uncertainty.resampling import resample_weights
from flops_fit.records import FloatArray

MIN_CORNERS = 4
MAX_REPLICATES = 40
# Runs this far above the hull in log loss are on the hull of no resample.
REACHABLE = 0.1
MAX_GAP = 0.02
# A resample's hull is of the runs it drew: 63% of them, whether the weights are multiplicities or exponential.
SMALL_WEIGHT = 0.46


def fit_approach1(inputs: FitInputs) -> LineMethod | LawFit:
    """Draws a line ln N over ln C through the corners of the lower hull, and through those of resamples."""
    log_runs = replace(inputs.log_runs, log_loss=inputs.log_runs.fresh_log_loss)
    corners = lower_hull(log_runs.log_c, log_runs.log_loss)
    if len(corners) < MIN_CORNERS or len(np.unique(np.round(log_runs.log_n[corners], 6))) < 3:
        reason = f"the lower hull has {len(corners)} corners; at least {MIN_CORNERS} of three sizes are needed."
        return refused_law("approach1", reason, len(log_runs))
    gap = _frontier_gap(log_runs, corners)
    if gap > MAX_GAP:
        reason = "the best loss falls faster and faster, so the hull passes "
        reason += f"{np.expm1(gap):.1%} below some budget's best run: its corners are not optima."
        return refused_law("approach1", reason, len(log_runs))
    grid = np.linspace(log_runs.log_c[corners[0]], log_runs.log_c[corners[-1]], 8)
    rows = [_along(log_runs, corners, grid)]
    edge = np.interp(log_runs.log_c, log_runs.log_c[corners], log_runs.log_loss[corners])
    reachable = np.flatnonzero(log_runs.log_loss <= edge + REACHABLE)
    count = min(inputs.num_resamples, MAX_REPLICATES)
    for weights in resample_weights(log_runs, count, inputs.rng) / log_runs.weight:
        drawn = reachable[weights[reachable] > SMALL_WEIGHT]
        if len(drawn) >= MIN_CORNERS:
            rows.append(_along(log_runs, drawn[lower_hull(log_runs.log_c[drawn], log_runs.log_loss[drawn])], grid))
    log_n, loss = (np.stack([row[i] for row in rows]) for i in (0, 1))
    used = f"{len(corners)} corners of the lower hull"
    return draw_line("approach1", log_runs, grid, log_n, loss, inputs.options.level, used)


def _frontier_gap(log_runs: LogRuns, corners: IntArray) -> float:
    """How far the hull passes below the best run of a budget between its ends, in log loss."""
    best = np.full(log_runs.num_budgets, np.inf)
    np.minimum.at(best, log_runs.budget, log_runs.log_loss)
    inside = (np.bincount(log_runs.budget) >= FEW_RUNS) & (log_runs.log_budgets < log_runs.log_c[corners[-1]])
    if not inside.any():
        return 0.0
    hull = np.interp(log_runs.log_budgets[inside], log_runs.log_c[corners], log_runs.log_loss[corners])
    return float(np.max(best[inside] - hull))


def _along(log_runs: LogRuns, corners: IntArray, grid: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log N and loss along the hull at ln C of the grid, straight between corners."""
    log_c = log_runs.log_c[corners]
    log_loss = np.interp(grid, log_c, log_runs.log_loss[corners])
    return np.interp(grid, log_c, log_runs.log_n[corners]), np.exp(log_loss)
