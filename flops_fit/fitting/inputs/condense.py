"""Large tables, condensed to weighted cells of budget, N and D, so that a bootstrap stays affordable."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.records import FloatArray

MAX_ROWS = 4000
"""More rows than this are condensed: 1000 resamples of them fill 32 MB."""
MAX_BUDGETS = 100
"""Where rows are condensed and there are more budgets than this, neighbouring ones are merged."""


def condense(log_runs: LogRuns) -> LogRuns:
    """Averages log loss over cells of budget, N and D where there are more rows than a bootstrap can take."""
    if len(log_runs) <= MAX_ROWS:
        return log_runs
    if log_runs.num_budgets > MAX_BUDGETS:
        log_runs = _merge_budgets(log_runs)
    cells = max(8, int(np.sqrt(MAX_ROWS / log_runs.num_budgets)))
    for resolution in (1e-6, None):
        keys = [log_runs.budget, *(_cell(c, resolution, cells) for c in (log_runs.log_n, log_runs.log_d))]
        _, index, count = np.unique(np.stack(keys), axis=1, return_inverse=True, return_counts=True)
        if len(count) <= MAX_ROWS:
            break
    weight = np.bincount(index, log_runs.weight).astype(np.float64)

    def mean(column: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(index, column * log_runs.weight) / weight)

    first = np.zeros(len(count), dtype=np.int64)
    first[index] = np.arange(len(log_runs))
    columns = ("log_n", "log_d", "log_c", "log_loss", "fresh_log_loss", "epochs")
    means: dict[str, Any] = {name: mean(getattr(log_runs, name)) for name in columns}
    budget, group = log_runs.budget[first], log_runs.group[first]
    total = np.bincount(index, log_runs.count).astype(np.float64)
    return replace(log_runs, **means, budget=budget, group=group, count=total, weight=weight)


def _merge_budgets(log_runs: LogRuns) -> LogRuns:
    """Merges the budgets of each of MAX_BUDGETS equal steps of ln C into their geometric mean."""
    log_budgets = log_runs.log_budgets
    step = _cell(log_budgets, None, MAX_BUDGETS - 1)
    _, merged = np.unique(step, return_inverse=True)
    mean = np.bincount(merged, log_budgets) / np.bincount(merged)
    return replace(log_runs, budget=merged[log_runs.budget].astype(np.int64), budgets=np.exp(mean))


def _cell(column: FloatArray, resolution: float | None, cells: int) -> NDArray[np.int64]:
    """Integer cell numbers: equal values, or ``cells`` cells over the range."""
    step = resolution if resolution is not None else max(float(np.ptp(column)) / cells, 1e-9)
    return np.asarray(np.round((column - column.min()) / step), dtype=np.int64)
