"""IsoFLOP curves: the minimum of each, and whether it is usable.

A parabola in ln N over the sizes near the budget's best, as in Hoffmann et al. 2022 (arXiv:2203.15556)
section 3.2, or Akima's spline through all sizes, as in Porian et al. 2024 (arXiv:2406.19146). Unlike them,
a curve that bends down, has its minimum at an edge or has too few sizes is refused, with the reason.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flops_fit.fitting.inputs.log_runs import IntArray, LogRuns
from flops_fit.fitting.methods.result import CurveCode, IsoflopCurve
from flops_fit.fitting.options import FitOptions
from flops_fit.quantities import count_of
from flops_fit.records import FloatArray

MIN_SIZES = 4
"""A parabola through three points always fits: nothing would be left to check it with."""
SAME_SIZE = 0.01
"""Sizes within 1% are one size: a spline through both would follow their noise."""
PARABOLA_ERROR = 0.11
"""Sd of ln N_opt that a parabola's own form adds to noise. With it 90% of the 114 minima on ten RefinedWeb sweeps of
Porian et al. hold the N_opt that they publish (porian_rw_optima.csv); by noise alone 48% do. The rms error is .13."""
# An interpolated minimum this far below the lowest run is an overshoot of the spline, in log loss.
MAX_OVERSHOOT = 0.1


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Minimum:
    """The minimum of one curve and of its replicates."""

    log_n: float
    loss: float
    log_n_replicates: FloatArray
    """Shape (R,); NaN where a replicate has no minimum inside."""
    loss_replicates: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Minima:
    """The minima of all budgets, by parabola and by spline; None where a budget has no usable one."""

    curves: tuple[IsoflopCurve, ...]
    """What the parabolas show."""
    parabolas: tuple[Minimum | None, ...]
    splines: tuple[Minimum | None, ...]


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
        cells.append(
            CurveCells(
                index=index,
                log_n=average @ log_runs.log_n,
                log_loss=average @ log_runs.fresh_log_loss,
                average=average,
            )
        )
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


def curve_residuals(
    log_runs: LogRuns, cells: tuple[CurveCells, ...], windows: list[FloatArray]
) -> tuple[FloatArray, IntArray, float]:
    """Log-loss residuals of the parabolas over each run's relative sd, the runs' groups, and degrees of freedom."""
    residual, group, dof = [np.zeros(0)], [np.zeros(0, dtype=np.int64)], 0.0
    for c, window in zip(cells, windows, strict=True):
        inside = window > 0
        if inside.sum() > MIN_SIZES - 1:
            x, y = c.log_n[inside], c.log_loss[inside]
            relative = np.sqrt(c.average[inside] @ log_runs.relative_sd**2)
            residual.append((y - np.polyval(fit_parabola(x, y), x)) / relative)
            group.append(log_runs.group[np.argmax(c.average[inside] > 0, axis=1)])
            dof += len(x) - 3
    return np.concatenate(residual), np.concatenate(group), dof


def curve_noise(log_runs: LogRuns, options: FitOptions) -> float:
    """Sd of log loss about the budgets' parabolas; 0 where no curve tells."""
    cells = curve_cells(log_runs)
    residual, _, dof = curve_residuals(log_runs, cells, [window_of(c, options.size_window) for c in cells])
    return float(np.sqrt((residual**2).sum() / dof)) if dof else 0.0


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


def akima_minimum(log_n: FloatArray, losses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Minimum of Akima's spline for every row of losses.

    Args:
        log_n: Sizes, ascending, shape (n,), n >= 4.
        losses: Shape (R, n).

    Returns:
        ln N and loss at the minimum, each (R,); NaN where it lies at the first or last size.

    Source: Akima 1970, J. ACM 17:589; end slopes by his parabolic extension.
    """
    step = np.diff(log_n)
    slopes = np.diff(losses, axis=1) / step
    first, last = slopes[:, :1], slopes[:, -1:]
    second, before = slopes[:, 1:2], slopes[:, -2:-1]
    padded = np.concatenate(
        [3 * first - 2 * second, 2 * first - second, slopes, 2 * last - before, 3 * last - 2 * before], axis=1
    )
    right, left = np.abs(np.diff(padded, axis=1))[:, 2:], np.abs(np.diff(padded, axis=1))[:, :-2]
    total = left + right
    even = 0.5 * (padded[:, 1:-2] + padded[:, 2:-1])
    tangent = np.where(
        total > 1e-12,
        (right * padded[:, 1:-2] + left * padded[:, 2:-1]) / np.maximum(total, 1e-12),
        even,
    )
    t = np.linspace(0, 1, 41)
    h00, h10 = 2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t
    h01, h11 = -2 * t**3 + 3 * t**2, t**3 - t**2
    curve = (
        losses[:, :-1, None] * h00
        + losses[:, 1:, None] * h01
        + step[:, None] * (tangent[:, :-1, None] * h10 + tangent[:, 1:, None] * h11)
    ).reshape(len(losses), -1)
    position = (log_n[:-1, None] + step[:, None] * t).reshape(-1)
    best = np.argmin(curve, axis=1)
    value = curve[np.arange(len(losses)), best]
    inside = (position[best] > log_n[0] + 1e-9) & (position[best] < log_n[-1] - 1e-9)
    inside &= value > losses.min(axis=1) * np.exp(-MAX_OVERSHOOT)
    return np.where(inside, position[best], np.nan), np.where(inside, value, np.nan)


def _smooth(values: FloatArray) -> FloatArray:
    if len(values) < 5:
        return values
    padded = np.concatenate([[np.inf], values, [np.inf]])
    middle = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return np.asarray(np.where(np.isfinite(middle), middle, np.maximum(values, np.sort(values)[1])))
