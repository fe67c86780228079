"""Which runs enter a fit, and as what? Everything left out is listed with its reason.

In this order: runs that stopped before the end of their schedule, all but the best learning rate of a cell,
runs that saw their data more than four times (the plain law does not hold there, Muennighoff et al. 2023,
arXiv:2305.16264), and runs that stand far off every neighbour. A table of a million rows is condensed to weighted
cells first, so that a bootstrap of it stays possible.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.columns import Columns, keep_best_learning_rate, select_runs
from flops_fit.fitting.extended.law import MIN_RUNS, weigh_priors
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import robust_sd
from flops_fit.records import FloatArray, RunTable

MAX_ROWS = 4000
"""More rows than this are condensed: 1000 resamples of them fill 32 MB."""
MAX_BUDGETS = 100
"""Where rows are condensed and there are more budgets than this, neighbouring ones are merged."""
MAX_EPOCHS = 4.0
FINISHED = 0.98
"""Share of its schedule that a run must have completed."""
MIN_DEVIATION = 0.02
"""A run closer to the law than this, in log loss, is no outlier however small the noise."""
NEIGHBOURS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The runs that enter, and the table as it stood before any was judged by its loss or epochs."""

    runs: RunTable
    before: RunTable
    """Finished runs with one learning rate per cell: what the fit without exclusions takes."""


def select_for_fit(runs: RunTable, options: FitOptions) -> Selection:
    """Leaves out what no law can hold. See the module's docstring for the order."""
    if runs.schedule_tokens is not None:
        share = runs.num_tokens / runs.schedule_tokens
        unfinished = np.isfinite(share) & (share < FINISHED)
        runs = select_runs(runs, ~unfinished, "its schedule was set for a longer run, so its loss is not final")
    if options.learning_rates == "best":
        runs = keep_best_learning_rate(runs)
    before = runs
    if runs.epochs is not None:
        often = np.isfinite(runs.epochs) & (runs.epochs > MAX_EPOCHS)
        runs = select_runs(runs, ~often, f"saw its data more than {MAX_EPOCHS:g} times")
    return Selection(runs=runs, before=before)


def find_outliers(columns: Columns, options: FitOptions) -> NDArray[np.bool_]:
    """Marks runs far off a robust fit of the extended law whose neighbours are not off with them.

    A corner of the grid where the law bends is off as a whole and stays; one bad run stands alone.
    """
    count = len(columns)
    none = np.zeros(count, dtype=bool)
    if count < MIN_RUNS + 2 or np.ptp(columns.log_n) < 1e-3 or np.ptp(columns.log_d) < 1e-3:
        return none
    weighed = weigh_priors(columns, options)
    x, y = (c - np.mean(c) for c in (columns.log_n, columns.log_d))
    residual = columns.log_loss - weighed.average(weighed.log_loss(columns.log_n, columns.log_d)[0])
    limit = max(options.outlier_threshold * robust_sd(residual), MIN_DEVIATION)
    suspects = np.flatnonzero(np.abs(residual) > limit)
    marked = none.copy()
    spread_n, spread_d = max(float(np.std(x)), 1e-9), max(float(np.std(y)), 1e-9)
    for i in suspects:
        distance = ((x - x[i]) / spread_n) ** 2 + ((y - y[i]) / spread_d) ** 2
        distance[i] = np.inf
        near = np.argsort(distance, kind="stable")[:NEIGHBOURS]
        marked[i] = abs(float(np.median(residual[near]))) < 0.5 * abs(residual[i])
    return marked


def condense(columns: Columns) -> Columns:
    """Averages log loss over cells of budget, N and D where there are more rows than a bootstrap can take."""
    if len(columns) <= MAX_ROWS:
        return columns
    if columns.num_budgets > MAX_BUDGETS:
        columns = _merge_budgets(columns)
    cells = max(8, int(np.sqrt(MAX_ROWS / columns.num_budgets)))
    for resolution in (1e-6, None):
        keys = [columns.budget, *(_cell(c, resolution, cells) for c in (columns.log_n, columns.log_d))]
        _, index, count = np.unique(np.stack(keys), axis=1, return_inverse=True, return_counts=True)
        if len(count) <= MAX_ROWS:
            break
    weight = np.bincount(index, columns.weight).astype(np.float64)

    def mean(column: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(index, column * columns.weight) / weight)

    first = np.zeros(len(count), dtype=np.int64)
    first[index] = np.arange(len(columns))
    return replace(
        columns,
        log_n=mean(columns.log_n),
        log_d=mean(columns.log_d),
        log_c=mean(columns.log_c),
        log_loss=mean(columns.log_loss),
        budget=columns.budget[first],
        group=columns.group[first],
        weight=weight,
    )


def _merge_budgets(columns: Columns) -> Columns:
    """Merges the budgets of each of MAX_BUDGETS equal steps of ln C into their geometric mean."""
    log_budgets = columns.log_budgets
    step = _cell(log_budgets, None, MAX_BUDGETS - 1)
    _, merged = np.unique(step, return_inverse=True)
    mean = np.bincount(merged, log_budgets) / np.bincount(merged)
    return replace(columns, budget=merged[columns.budget].astype(np.int64), budgets=np.exp(mean))


def _cell(column: FloatArray, resolution: float | None, cells: int) -> NDArray[np.int64]:
    """Integer cell numbers: equal values, or ``cells`` cells over the range."""
    step = resolution if resolution is not None else max(float(np.ptp(column)) / cells, 1e-9)
    return np.asarray(np.round((column - column.min()) / step), dtype=np.int64)
