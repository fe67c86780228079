"""Runs in logs, with their budgets and groups, as the fitters take them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.flops_function import FlopsFunction, measure_flops_function
from flops_fit.records import FloatArray, RunTable

IntArray = NDArray[np.int64]
FEW_RUNS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class LogRuns:
    """Runs in logs, each column of shape (n,). Budgets are the table's: nothing is regrouped here."""

    log_n: FloatArray
    log_d: FloatArray
    log_c: FloatArray
    """C spent."""
    log_loss: FloatArray
    budget: IntArray
    """Index into ``budgets``."""
    group: IntArray
    """Runs of one group have correlated errors."""
    weight: FloatArray
    """How many runs a row stands for; 1 unless the table was condensed."""
    budgets: FloatArray
    """Distinct planned budgets as the table holds them, FLOPs, ascending, shape (m,)."""
    flops: FlopsFunction

    def __len__(self) -> int:
        return len(self.log_loss)

    @property
    def loss(self) -> FloatArray:
        """Loss in nats, shape (n,)."""
        return np.asarray(np.exp(self.log_loss))

    @property
    def num_budgets(self) -> int:
        """How many distinct budgets."""
        return len(self.budgets)

    @property
    def log_budgets(self) -> FloatArray:
        """Log: ln of each budget, shape (m,)."""
        return np.asarray(np.log(self.budgets))

    @property
    def is_clustered(self) -> bool:
        """Whether some runs share a group, so that resampling draws whole groups."""
        return len(np.unique(self.group)) < len(self)

    @property
    def is_scattered(self) -> bool:
        """Whether most runs stand on budgets with fewer than three runs: no IsoFLOP curves."""
        count = np.bincount(self.budget)
        return bool(count[count >= 3].sum() < 0.5 * len(self))

    @property
    def log_c_top(self) -> float:
        """Log: ln of the largest budget."""
        return float(self.log_budgets[-1])

    @property
    def log_c_middle(self) -> float:
        """Middle of the fitted budgets, where exponents are stated."""
        return float((self.log_budgets[0] + self.log_budgets[-1]) / 2)


def make_log_runs(runs: RunTable) -> LogRuns:
    """Turns a table into logs; int64 columns become float64 before anything is multiplied."""
    compute, num_params, num_tokens = (
        np.asarray(c, dtype=np.float64) for c in (runs.compute, runs.num_params, runs.num_tokens)
    )
    budgets, budget = np.unique(np.asarray(runs.compute_budget, dtype=np.float64), return_inverse=True)
    _, group = np.unique(np.asarray(runs.group), return_inverse=True)
    return LogRuns(
        log_n=np.log(num_params),
        log_d=np.log(num_tokens),
        log_c=np.log(compute),
        log_loss=np.log(np.asarray(runs.loss, dtype=np.float64)),
        budget=budget.astype(np.int64),
        group=group.astype(np.int64),
        weight=np.ones(len(runs)),
        budgets=budgets,
        flops=measure_flops_function(compute, num_params, num_tokens),
    )


def take_log_runs(log_runs: LogRuns, keep: NDArray[np.bool_]) -> LogRuns:
    """Returns the rows where ``keep`` is true, budgets renumbered. The FLOPs function stays that of all runs."""
    kept, budget = np.unique(log_runs.budget[keep], return_inverse=True)
    return replace(
        log_runs,
        log_n=log_runs.log_n[keep],
        log_d=log_runs.log_d[keep],
        log_c=log_runs.log_c[keep],
        log_loss=log_runs.log_loss[keep],
        budget=budget.astype(np.int64),
        group=log_runs.group[keep],
        weight=log_runs.weight[keep],
        budgets=log_runs.budgets[kept],
    )


def near_optimum(log_runs: LogRuns, share: float) -> NDArray[np.bool_]:
    """Marks runs whose loss is at most ``share`` above the best of their budget.

    A budget of fewer than four runs has no reliable best: there the lower convex hull of ln loss over ln C of
    all runs stands for it.
    """
    best = np.full(log_runs.num_budgets, np.inf)
    np.minimum.at(best, log_runs.budget, log_runs.log_loss)
    reference = best[log_runs.budget]
    small = np.bincount(log_runs.budget)[log_runs.budget] < FEW_RUNS
    if small.any():
        corners = lower_hull(log_runs.log_c, log_runs.log_loss)
        hull = np.interp(log_runs.log_c, log_runs.log_c[corners], log_runs.log_loss[corners])
        reference = np.where(small, hull, reference)
    return np.asarray(log_runs.log_loss <= reference + np.log1p(share))


def lower_hull(x: FloatArray, y: FloatArray) -> IntArray:
    """Indices of the falling part of the lower convex hull, by ascending x (Andrew's monotone chain)."""
    order = np.lexsort((y, x))
    hull: list[int] = []
    for i in order:
        if hull and x[i] <= x[hull[-1]]:
            continue
        while len(hull) >= 2:
            o, a = hull[-2], hull[-1]
            if (x[a] - x[o]) * (y[i] - y[o]) - (y[a] - y[o]) * (x[i] - x[o]) > 0:
                break
            hull.pop()
        hull.append(int(i))
    lowest = int(np.argmin(y[hull]))
    return np.asarray(hull[: lowest + 1], dtype=np.int64)


def keep_best_learning_rate(runs: RunTable) -> RunTable:
    """Keeps the lowest loss of runs that differ in nothing but the learning rate.

    Runs that repeat a learning rate (other seeds) are no search and stay.
    """
    if runs.learning_rate is None:
        return runs
    rate = np.asarray(runs.learning_rate, dtype=np.float64)
    cell = np.stack([runs.compute_budget, runs.num_params, np.round(np.log(runs.num_tokens), 3)])
    _, index = np.unique(cell, axis=1, return_inverse=True)
    best_rate = np.empty(index.max() + 1)
    order = np.argsort(-runs.loss, kind="stable")
    best_rate[index[order]] = rate[order]
    keep = (rate == best_rate[index]) | ~np.isfinite(rate)
    return runs.take(keep, code="other_learning_rate", reason="another learning rate of this cell has a lower loss")
