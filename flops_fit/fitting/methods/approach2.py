"""Approach 2: a line through the minima of the IsoFLOP curves (Hoffmann et al. 2022, section 3.2).

ln N_opt is a line in ln C, and the loss at the minima an envelope E + k C^-g. A budget without a usable
minimum is left out and listed; fewer than three usable budgets are refused, and fewer than five are a
finding (research/requirements.md, F2).
"""

import numpy as np

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods import isoflop_curve
from flops_fit.fitting.methods.isoflop_curve import CurveCells, Minimum, fit_parabola
from flops_fit.fitting.methods.method import MIN_BUDGETS, FitInputs
from flops_fit.fitting.methods.optimum_line import LineMethod, draw_line
from flops_fit.fitting.methods.result import IsoflopCurve, LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import draw_noise, group_correlation, normal_quantile
from flops_fit.fitting.uncertainty.spread import exp_interval, interval_of, widened_interval
from flops_fit.records import FloatArray, Interval

MIN_DOF = 3.0
MAX_NOISE = 0.5
"""No replicate moves a loss by more than this factor of e: beyond it there is no curve."""


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
    cells = isoflop_curve.curve_cells(log_runs)
    windows = [isoflop_curve.window_of(c, options.size_window) for c in cells]
    noise = _draw_noise(log_runs, cells, windows, rng, count)
    found = [_minimum(log_runs, c, w, noise, options.level) for c, w in zip(cells, windows, strict=True)]
    return tuple(curve for curve, _ in found), tuple(minimum for _, minimum in found)


def _draw_noise(
    log_runs: LogRuns, cells: tuple[CurveCells, ...], windows: list[FloatArray], rng: np.random.Generator, count: int
) -> FloatArray:
    """Replicates of the runs' noise in log loss, (count, n_runs), at one level pooled over the parabolas' residuals."""
    residual, group, dof = [], [], 0.0
    for c, window in zip(cells, windows, strict=True):
        inside = window > 0
        if inside.sum() >= isoflop_curve.MIN_SIZES:
            x, y = c.log_n[inside], c.log_loss[inside]
            relative = np.sqrt(c.average[inside] @ log_runs.relative_sd**2)
            residual.append((y - np.polyval(fit_parabola(x, y), x)) / relative)
            group.append(log_runs.group[np.argmax(c.average[inside] > 0, axis=1)])
            dof += len(x) - 3
    if not residual:
        return np.zeros((count, len(log_runs)))
    pooled = np.concatenate(residual)
    sd = float(np.sqrt((pooled**2).sum() / dof))
    correlation = group_correlation(pooled, np.concatenate(group))
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
    doubt = isoflop_curve.parabola_doubt(x, parabola, float(np.exp(log_loss.min())))
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
    form = normal_quantile(level) * isoflop_curve.PARABOLA_ERROR
    return exp_interval(widened_interval(interval_of(logs, level), form))
