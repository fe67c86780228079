"""IsoFLOP curves: the minimum of each, and whether it is usable.

A parabola in ln N over the sizes near the budget's best, as in Hoffmann et al. 2022 (arXiv:2203.15556) section 3.2.
Unlike theirs, a curve that bends down, has its minimum at an edge or has too few sizes is refused, with the reason.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.result import CurveCode
from flops_fit.quantities import count_of
from flops_fit.records import FloatArray

MIN_SIZES = 4
"""A parabola through three points always fits: nothing would be left to check it with."""
SAME_SIZE = 0.01
"""Sizes within 1% are one size, of more weight."""
PARABOLA_ERROR = 0.11
"""Sd of ln N_opt that a parabola's own form adds to noise. With it 90% of the 114 minima on ten RefinedWeb sweeps of
Porian et al. hold the N_opt that they publish (porian_rw_optima.csv); by noise alone 48% do. The rms error is .13."""
MAX_OVERSHOOT = 0.1
"""Log loss: a minimum this far below the lowest run follows scatter."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveCells:
    """One budget's runs, one row per size, ascending; runs of one size are averaged."""

    index: int
    """Which budget."""
    log_n: FloatArray
    log_loss: FloatArray
    average: FloatArray
    """Averaging matrix from all runs of the sweep, shape (n_cells, n_runs)."""


class Doubt(NamedTuple):
    """Why a curve's minimum is not used."""

    code: CurveCode
    reason: str


class Minimum(NamedTuple):
    """The minimum of one curve (row 0) and of its replicates, shape (1 + R,)."""

    log_n: FloatArray
    """NaN where a replicate has no minimum inside."""
    loss: FloatArray


def curve_cells(log_runs: LogRuns) -> tuple[CurveCells, ...]:
    """Sorts the runs of each budget by size."""
    cells = []
    for index in range(log_runs.num_budgets):
        rows = np.flatnonzero(log_runs.budget == index)
        order = rows[np.argsort(log_runs.log_n[rows], kind="stable")]
        cell = np.concatenate([[0], np.cumsum(np.diff(log_runs.log_n[order]) > SAME_SIZE)])
        weight = log_runs.weight[order]
        average = np.zeros((cell[-1] + 1, len(log_runs)))
        average[cell, order] = weight / np.bincount(cell, weight)[cell]
        log_n, log_loss = average @ log_runs.log_n, average @ log_runs.fresh_log_loss
        cells.append(CurveCells(index=index, log_n=log_n, log_loss=log_loss, average=average))
    return tuple(cells)


def window_of(cells: CurveCells, factor: float) -> FloatArray:
    """Marks the sizes within ``factor`` of the best one; at least four, the nearest, where there are so many.

    The best size is that of a three-point mean, so that one lucky run does not move the window.
    """
    best = cells.log_n[int(np.argmin(_smooth(cells.log_loss)))]
    distance = np.abs(cells.log_n - best)
    reach = max(np.log(factor) + 1e-9, float(np.sort(distance)[min(MIN_SIZES, len(distance)) - 1]) + 1e-9)
    return np.asarray((distance <= reach).astype(np.float64))


def fit_parabola(log_n: FloatArray, loss: FloatArray) -> FloatArray:
    """Least squares of loss on (1, x, x^2); coefficients (c2, c1, c0), shape (3,) or (3, R) for loss (n, R)."""
    centre = log_n.mean()
    x = log_n - centre
    c2, c1, c0 = np.linalg.lstsq(np.stack([x * x, x, np.ones_like(x)], axis=1), loss, rcond=None)[0]
    return np.asarray(np.stack([c2, c1 - 2 * c2 * centre, c0 - c1 * centre + c2 * centre**2]))


def parabola_doubt(log_n: FloatArray, coefficients: FloatArray, lowest: float) -> Doubt | None:
    """Returns why a parabola's vertex is not usable; None where it is.

    Args:
        log_n: Sizes in the window, ascending.
        coefficients: (c2, c1, c0).
        lowest: Least loss of the runs in the window.
    """
    c2, c1, c0 = (float(c) for c in coefficients)
    if len(log_n) < MIN_SIZES:
        return Doubt("few_sizes", f"only {count_of(len(log_n), 'size')}; a parabola needs {MIN_SIZES} to be checked")
    if c2 <= 0:
        return Doubt("negative_curvature", "the curve bends downwards, so it has no minimum")
    vertex = -c1 / (2 * c2)
    if vertex <= log_n[0] or vertex >= log_n[-1]:
        end = "smallest" if vertex <= log_n[0] else "largest"
        return Doubt("optimum_at_edge", f"the minimum lies beyond the {end} size")
    if c0 - c1 * c1 / (4 * c2) < lowest * np.exp(-MAX_OVERSHOOT):
        return Doubt("scattered_curve", "the parabola falls far below every run, so it follows their scatter")
    return None


def _smooth(values: FloatArray) -> FloatArray:
    if len(values) < 5:
        return values
    padded = np.concatenate([[np.inf], values, [np.inf]])
    middle = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return np.asarray(np.where(np.isfinite(middle), middle, np.maximum(values, np.sort(values)[1])))
