"""Approach 2: a line through the minima of the IsoFLOP curves (Hoffmann et al. 2022, arXiv:2203.15556, section 3.2).

Each minimum is that of a parabola in ln N over the sizes near the budget's best. Unlike theirs, a curve that bends
down, has its minimum at an edge or has too few sizes is refused, with the reason: its budget is left out and listed.
Fewer than three usable budgets are refused, and fewer than five are a finding (research/requirements.md, F2).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.inputs.log_runs import IntArray, LogRuns, near_optimum
from flops_fit.fitting.methods.method import MIN_BUDGETS, FitInputs
from flops_fit.fitting.methods.optimum_line import PARABOLA_ERROR, LineMethod, draw_line
from flops_fit.fitting.methods.result import CurveCode, IsoflopCurve, LawFit, Minimum, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import draw_noise, group_correlation, normal_quantile
from flops_fit.fitting.uncertainty.spread import exp_interval, interval_of, widened_interval
from flops_fit.quantities import count_of
from flops_fit.records import FloatArray, Interval

MIN_SIZES = 4
"""A parabola through three points always fits: nothing would be left to check it with."""
SAME_SIZE = 0.01
"""Sizes within 1% are one size, of more weight."""
MAX_OVERSHOOT = 0.1
"""Log loss: a minimum this far below the lowest run follows scatter."""
MIN_NEAR, WIDENING = 30, 1.25
"""With fewer runs near the minima the cut widens: a few bent runs are better than a law of ten."""
CUT_OVER_NOISE = 4.0
"""A cut within a few sd of the noise keeps lucky runs and leaves out unlucky ones, which hides the valley."""
MIN_DOF = 3.0
MAX_NOISE = 0.5
"""No replicate moves a loss by more than this factor of e: beyond it there is no curve."""


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


def fit_approach2(inputs: FitInputs) -> LineMethod | LawFit:
    """Draws a line through the minima of the budgets' parabolas."""
    log_runs = inputs.log_runs
    usable = [i for i, m in enumerate(inputs.minima) if m is not None]
    used = f"{len(usable)} of {len(inputs.minima)} budgets"
    if len(usable) < MIN_BUDGETS:
        reason = f"{used} have a usable minimum; a line needs {MIN_BUDGETS}."
        return refused_law("approach2", reason, len(log_runs))
    columns = zip(*(m for m in inputs.minima if m is not None), strict=True)
    log_n, loss = (np.stack(column, axis=1) for column in columns)
    # A replicate that lost its minimum takes the budget's point value.
    log_n, loss = np.where(np.isfinite(log_n), log_n, log_n[0]), np.where(np.isfinite(loss), loss, loss[0])
    return draw_line("approach2", log_runs, log_runs.log_budgets[usable], log_n, loss, inputs.options.level, used)


def find_minima(
    log_runs: LogRuns, options: FitOptions, rng: np.random.Generator, *, count: int
) -> tuple[tuple[IsoflopCurve, ...], tuple[Minimum | None, ...]]:
    """Finds the curve of every budget, and its minimum with ``count`` replicates; None where it is not usable."""
    cells = curve_cells(log_runs)
    windows = [window_of(c, options.size_window) for c in cells]
    noise = _draw_noise(log_runs, cells, windows, rng, count)
    found = [_minimum(log_runs, c, w, noise, options.level) for c, w in zip(cells, windows, strict=True)]
    return tuple(curve for curve, _ in found), tuple(minimum for _, minimum in found)


def _draw_noise(
    log_runs: LogRuns, cells: tuple[CurveCells, ...], windows: list[FloatArray], rng: np.random.Generator, count: int
) -> FloatArray:
    """Replicates of the runs' noise in log loss, (count, n_runs), at one level pooled over the parabolas' residuals."""
    pooled, group, dof = curve_residuals(log_runs, cells, windows)
    if not dof:
        return np.zeros((count, len(log_runs)))
    sd = float(np.sqrt((pooled**2).sum() / dof))
    correlation = group_correlation(pooled, group)
    noise = draw_noise(log_runs, sd, correlation, count, rng) * log_runs.relative_sd
    # The noise level itself is known only to its degrees of freedom: normal over chi is Student's t.
    dof = max(dof, MIN_DOF)
    noise *= np.sqrt(dof / rng.chisquare(dof, size=(count, 1)))
    return np.clip(noise, -MAX_NOISE, MAX_NOISE)


def _minimum(
    log_runs: LogRuns, cells: CurveCells, window: FloatArray, noise: FloatArray, level: float
) -> tuple[IsoflopCurve, Minimum | None]:
    inside = window > 0
    x, log_loss = cells.log_n[inside], cells.log_loss[inside]
    parabola = fit_parabola(x, np.exp(log_loss))
    doubt = parabola_doubt(x, parabola, float(np.exp(log_loss.min())))
    minimum = None if doubt else _replicated(x, parabola, np.exp(log_loss + noise @ cells.average[inside].T))
    n_opt = d_opt = loss_opt = None
    if minimum is not None:
        log_n, loss = (column[np.isfinite(minimum.log_n)] for column in minimum)
        n_opt = _minimum_interval(log_n, level)
        d_opt = _minimum_interval(log_runs.flops.log_tokens(log_runs.log_budgets[cells.index], log_n), level)
        loss_opt = interval_of(loss, level)
    curve = IsoflopCurve(
        compute_budget=float(log_runs.budgets[cells.index]),
        num_params=np.exp(cells.log_n),
        loss=np.exp(cells.log_loss),
        in_window=window,
        coefficients=None if len(x) < 3 else (*(float(c) for c in parabola),),  # type: ignore[arg-type]
        n_opt=n_opt,
        d_opt=d_opt,
        loss_opt=loss_opt,
        code=None if doubt is None else doubt.code,
        reason=None if doubt is None else doubt.reason,
    )
    return curve, minimum


def _replicated(x: FloatArray, parabola: FloatArray, drawn: FloatArray) -> Minimum:
    """The vertex of a parabola and of those through replicates of the losses, (R, n)."""
    c2, c1, c0 = fit_parabola(x, drawn.T)
    good = c2 > 0
    vertex = np.where(good, -c1 / np.where(good, 2 * c2, 1.0), np.nan)
    # A replicate without a minimum inside the window has it at the edge or beyond: it is kept, at the edge.
    vertex = np.clip(vertex, x[0] - np.log(2), x[-1] + np.log(2))
    loss = np.maximum(c2 * vertex**2 + c1 * vertex + c0, 1e-9)
    c2, c1, c0 = parabola
    return Minimum(np.append(-c1 / (2 * c2), vertex), np.append(c0 - c1**2 / (4 * c2), loss))


def _minimum_interval(logs: FloatArray, level: float) -> Interval:
    """Interval of the size or tokens at a minimum, by noise and by the parabola's own form."""
    form = normal_quantile(level) * PARABOLA_ERROR
    return exp_interval(widened_interval(interval_of(logs, level), form))


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


def curve_residuals(
    log_runs: LogRuns, cells: tuple[CurveCells, ...], windows: list[FloatArray]
) -> tuple[FloatArray, IntArray, float]:
    """Log-loss residuals of the parabolas over each run's relative sd, the runs' groups, and degrees of freedom."""
    residual, group, dof = [np.zeros(0)], [np.zeros(0, dtype=np.int64)], 0.0
    for c, window in zip(cells, windows, strict=True):
        inside = window > 0
        if inside.sum() >= MIN_SIZES:
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


def near_minima(log_runs: LogRuns, options: FitOptions) -> NDArray[np.bool_]:
    """Marks the runs within a few percent of their budget's best, of which there must be enough for a law."""
    share = max(options.near_minima, CUT_OVER_NOISE * curve_noise(log_runs, options))
    near = near_optimum(log_runs, share)
    while near.sum() < min(MIN_NEAR, len(log_runs)):
        share *= WIDENING
        near = near_optimum(log_runs, share)
    return near


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
    """Returns why the vertex of a parabola (c2, c1, c0) is not usable; None where it is.

    The sizes in the window are ascending, ``lowest`` is the least loss of its runs.
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
