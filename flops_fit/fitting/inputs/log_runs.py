"""Runs in logs, with their budgets and groups, as the fitters take them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flops_fit.errors import InputError
from flops_fit.fitting.flops_function import FlopsFunction, measure_flops_function
from flops_fit.fitting.inputs.repeats import REPEAT_CONSTANT, effective_tokens, epochs_of
from flops_fit.records import FloatArray, RunTable

IntArray = NDArray[np.int64]
FEW_RUNS = 4
NOISE_FLOOR = 0.002
"""Sd of log loss between seeds, about (Porian et al. 2024 assume the same): no standard error makes a run surer."""
MIN_REPEATS = 4
"""Of cells that were run again, before their scatter counts as the sd between seeds."""
ROWS = ("log_n", "log_d", "log_c", "log_loss", "fresh_log_loss", "epochs", "group", "count", "weight")


@dataclass(frozen=True, kw_only=True, eq=False)
class LogRuns:
    """Runs in logs, each column of shape (n,). Budgets are the table's: nothing is regrouped here."""

    log_n: FloatArray
    log_d: FloatArray
    """Effective tokens: repeats count for what they are worth in fresh tokens (`inputs/repeats.py`)."""
    log_c: FloatArray
    """C spent."""
    log_loss: FloatArray
    fresh_log_loss: FloatArray
    """What as many fresh tokens would have reached: for methods that see no D, such as IsoFLOP curves."""
    epochs: FloatArray
    """D over unique tokens, at least 1."""
    budget: IntArray
    """Index into ``budgets``."""
    group: IntArray
    """Runs of one group have correlated errors."""
    count: FloatArray
    """How many runs a row stands for; 1 unless the table was condensed."""
    weight: FloatArray
    """``count`` times the relative precision of the loss, where it is known; sums to the number of runs."""
    budgets: FloatArray
    """Distinct planned budgets as the table holds them, FLOPs, ascending, shape (m,)."""
    flops: FlopsFunction

    def __len__(self) -> int:
        return len(self.log_loss)

    @property
    def relative_sd(self) -> FloatArray:
        """Sd of each run's log loss over the usual one, shape (n,)."""
        return np.sqrt(self.count / self.weight)

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
    def log_c_middle(self) -> float:
        """Middle of the fitted budgets, where exponents are stated."""
        return float((self.log_budgets[0] + self.log_budgets[-1]) / 2)


def make_log_runs(runs: RunTable) -> LogRuns:
    """Turns a table into logs; int64 columns become float64 before anything is multiplied.

    Raises:
        InputError: If a standard error of the loss is zero, negative or infinite.
    """
    compute, num_params, num_tokens = (
        np.asarray(c, dtype=np.float64) for c in (runs.compute, runs.num_params, runs.num_tokens)
    )
    budgets, budget = np.unique(np.asarray(runs.compute_budget, dtype=np.float64), return_inverse=True)
    _, group = np.unique(np.asarray(runs.group), return_inverse=True)
    log_loss, epochs = np.log(np.asarray(runs.loss, dtype=np.float64)), epochs_of(runs)
    return LogRuns(
        log_n=np.log(num_params),
        log_d=np.log(effective_tokens(num_tokens, num_tokens / epochs, REPEAT_CONSTANT)),
        log_c=np.log(compute),
        log_loss=log_loss,
        fresh_log_loss=log_loss,
        epochs=epochs,
        budget=budget.astype(np.int64),
        group=group.astype(np.int64),
        count=np.ones(len(runs)),
        weight=_precision(runs),
        budgets=budgets,
        flops=measure_flops_function(compute, num_params, num_tokens),
    )


def take_log_runs(log_runs: LogRuns, keep: NDArray[np.bool_]) -> LogRuns:
    """Returns the rows where ``keep`` is true, budgets renumbered. The FLOPs function stays that of all runs."""
    kept, budget = np.unique(log_runs.budget[keep], return_inverse=True)
    rows = {name: getattr(log_runs, name)[keep] for name in ROWS}
    rows["weight"] = rows["weight"] * (rows["count"].sum() / rows["weight"].sum())
    return replace(log_runs, **rows, budget=budget.astype(np.int64), budgets=log_runs.budgets[kept])


def _precision(runs: RunTable) -> FloatArray:
    """Relative 1/variance of each run's log loss, mean 1; an unknown standard error is the median of the others."""
    if runs.loss_std_error is None or np.isnan(runs.loss_std_error).all():
        return np.ones(len(runs))
    wrong = np.flatnonzero((runs.loss_std_error <= 0) | np.isinf(runs.loss_std_error))
    if len(wrong):
        raise InputError(
            f"{runs.source[wrong[0]]}: loss_std_error={runs.loss_std_error[wrong[0]]:g}, expected a finite number "
            "above 0, in nats. Leave it empty (NaN in Python) where it is unknown."
        )
    sd = runs.loss_std_error / runs.loss
    sd = np.where(np.isnan(sd), np.nanmedian(sd), sd)
    precision = 1 / (sd**2 + max(NOISE_FLOOR, _seed_sd(runs)) ** 2)
    return np.asarray(precision / precision.mean())


def _seed_sd(runs: RunTable) -> float:
    """Pooled sd of log loss between runs of one budget, N and D; 0 where too few were repeated."""
    cells = np.stack([runs.compute_budget, runs.num_params, runs.num_tokens])
    _, cell, count = np.unique(cells, axis=1, return_inverse=True, return_counts=True)
    repeats = len(runs) - len(count)
    if repeats < MIN_REPEATS:
        return 0.0
    log_loss = np.log(runs.loss)
    mean = np.bincount(cell, log_loss) / count
    return float(np.sqrt(((log_loss - mean[cell]) ** 2).sum() / repeats))


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
