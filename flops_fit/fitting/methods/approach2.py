"""Approach 2: a line through the minima of the IsoFLOP curves, by parabola or by Akima's spline.

ln N_opt is a line in ln C, and the loss at the minima an envelope E + k C^-g. A budget without a usable
minimum is left out and listed; fewer than three usable budgets are refused, and fewer than five are a
finding (research/requirements.md, F2).
"""

import numpy as np

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.isoflop_curve import (
    MIN_SIZES,
    PARABOLA_ERROR,
    CurveCells,
    Doubt,
    Minima,
    Minimum,
    akima_minimum,
    curve_cells,
    curve_residuals,
    fit_parabola,
    parabola_doubt,
    window_of,
)
from flops_fit.fitting.methods.method import MIN_BUDGETS, FitInputs
from flops_fit.fitting.methods.optimum_line import LineMethod, draw_line
from flops_fit.fitting.methods.result import IsoflopCurve, LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import draw_noise, group_correlation, normal_quantile
from flops_fit.fitting.uncertainty.spread import interval_of, widened_interval
from flops_fit.records import FloatArray, Interval

MIN_DOF = 3.0
# No replicate moves a loss by more than this factor of e: beyond it there is no curve.
MAX_NOISE = 0.5


def fit_approach2(inputs: FitInputs) -> LineMethod | LawFit:
    """Draws a line through the minima of the budgets' parabolas."""
    return _line("approach2", inputs.log_runs, inputs.minima.parabolas, inputs.options.level)


def fit_akima(inputs: FitInputs) -> LineMethod | LawFit:
    """Draws a line through the minima of the budgets' Akima splines."""
    return _line("akima", inputs.log_runs, inputs.minima.splines, inputs.options.level)


def find_minima(log_runs: LogRuns, options: FitOptions, rng: np.random.Generator, *, count: int) -> Minima:
    """Finds every budget's minimum twice, by parabola and by Akima's spline, with ``count`` replicates of each."""
    cells = curve_cells(log_runs)
    windows = [window_of(c, options.size_window) for c in cells]
    noise = _draw_noise(log_runs, cells, windows, rng, count)
    parabolas = [_parabola_minimum(c, w, noise) for c, w in zip(cells, windows, strict=True)]
    return Minima(
        curves=tuple(
            _describe(log_runs, c, window, found, options.level)
            for c, window, found in zip(cells, windows, parabolas, strict=True)
        ),
        parabolas=tuple(minimum for _, minimum, _ in parabolas),
        splines=tuple(_akima(c, noise) for c in cells),
    )


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


def _parabola_minimum(
    cells: CurveCells, window: FloatArray, noise: FloatArray
) -> tuple[FloatArray | None, Minimum | None, Doubt | None]:
    inside = window > 0
    x = cells.log_n[inside]
    level = cells.log_loss[inside]
    coefficients = fit_parabola(x, np.exp(level))
    doubt = parabola_doubt(x, coefficients, float(np.exp(level.min())))
    if doubt:
        return None if len(x) < 3 else coefficients, None, doubt
    drawn = np.exp(level + noise @ cells.average[inside].T)
    c2, c1, c0 = fit_parabola(x, drawn.T)
    good = c2 > 0
    vertex = np.where(good, -c1 / np.where(good, 2 * c2, 1.0), np.nan)
    # A replicate without a minimum inside the window has it at the edge or beyond: it is kept, at the edge.
    vertex = np.clip(vertex, x[0] - np.log(2), x[-1] + np.log(2))
    return (
        coefficients,
        Minimum(
            log_n=float(-coefficients[1] / (2 * coefficients[0])),
            loss=float(coefficients[2] - coefficients[1] ** 2 / (4 * coefficients[0])),
            log_n_replicates=vertex,
            loss_replicates=np.maximum(c2 * vertex**2 + c1 * vertex + c0, 1e-9),
        ),
        None,
    )


def _akima(cells: CurveCells, noise: FloatArray) -> Minimum | None:
    if len(cells.log_n) < MIN_SIZES:
        return None
    drawn = np.exp(cells.log_loss + np.concatenate([np.zeros((1, len(noise[0]))), noise]) @ cells.average.T)
    log_n, loss = akima_minimum(cells.log_n, drawn)
    if not np.isfinite(log_n[0]):
        return None
    return Minimum(log_n=float(log_n[0]), loss=float(loss[0]), log_n_replicates=log_n[1:], loss_replicates=loss[1:])


def _line(name: str, log_runs: LogRuns, minima: tuple[Minimum | None, ...], level: float) -> LineMethod | LawFit:
    usable = [i for i, m in enumerate(minima) if m is not None]
    found = [m for m in minima if m is not None]
    if len(found) < MIN_BUDGETS:
        return refused_law(
            name,
            f"{len(found)} of {len(minima)} budgets have a usable minimum; a line needs {MIN_BUDGETS}.",
            len(log_runs),
        )
    x = log_runs.log_budgets[usable]
    log_n = np.stack([np.concatenate([[m.log_n], m.log_n_replicates]) for m in found], axis=1)
    loss = np.stack([np.concatenate([[m.loss], m.loss_replicates]) for m in found], axis=1)
    # A replicate that lost its minimum takes the budget's point value.
    log_n, loss = np.where(np.isfinite(log_n), log_n, log_n[0]), np.where(np.isfinite(loss), loss, loss[0])
    return draw_line(name, log_runs, x, log_n, loss, level, f"{len(found)} of {len(minima)} budgets")


def _describe(
    log_runs: LogRuns,
    cells: CurveCells,
    window: FloatArray,
    found: tuple[FloatArray | None, Minimum | None, Doubt | None],
    level: float,
) -> IsoflopCurve:
    coefficients, minimum, doubt = found
    n_opt = d_opt = loss_opt = None
    if minimum is not None:
        kept = np.isfinite(minimum.log_n_replicates)
        log_n = np.concatenate([[minimum.log_n], minimum.log_n_replicates[kept]])
        n_opt = _minimum_interval(log_n, level)
        d_opt = _minimum_interval(log_runs.flops.log_tokens(log_runs.log_budgets[cells.index], log_n), level)
        loss_opt = interval_of(np.concatenate([[minimum.loss], minimum.loss_replicates[kept]]), level)
    return IsoflopCurve(
        compute_budget=float(log_runs.budgets[cells.index]),
        num_params=np.exp(cells.log_n),
        loss=np.exp(cells.log_loss),
        in_window=window,
        coefficients=None if coefficients is None else (*(float(c) for c in coefficients),),  # type: ignore[arg-type]
        n_opt=n_opt,
        d_opt=d_opt,
        loss_opt=loss_opt,
        code=None if doubt is None else doubt.code,
        reason=None if doubt is None else doubt.reason,
    )


def _minimum_interval(logs: FloatArray, level: float) -> Interval:
    """Interval of the size or tokens at a minimum, by noise and by the parabola's own form."""
    found = widened_interval(interval_of(logs, level), normal_quantile(level) * PARABOLA_ERROR)
    value, low, high = (float(np.exp(end)) for end in (found.value, found.low, found.high))
    return Interval(value=value, low=low, high=high, level=level)
