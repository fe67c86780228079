"""Farseer's law: L = e(N) + B(N) D^-beta(N), each of the three curves with ln f = c + a N^g.

The exponent of D changes with N, which a sum of a term in N and a term in D cannot express. A curve is written as
level + slope (e^(bend x) - 1) / bend, x = ln N minus its mean: the same curve, regular at g = 0, under weak priors on
slope and bend. Maximum a posteriori by batched Levenberg-Marquardt on log loss with Huber weights, from fixed starts;
intervals come from the covariance of the posterior. Nothing is drawn at random.

Source: Li et al. 2025 (arXiv:2506.10972). Deviation: D is divided by its geometric mean. With D in tokens, levels and
slopes of B and beta are collinear: 8 of 20 starts found the best minimum on 197 of Farseer's runs, now all of them do.
Priors, cut and weights are ours, from backtests of 17 published sweeps, which hardly depend on them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.inputs.log_runs import LogRuns, take_log_runs
from flops_fit.fitting.methods.approach2 import near_minima
from flops_fit.fitting.methods.optimum import optimum_on_budgets
from flops_fit.fitting.methods.result import LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import design_effect, robust_sd, t_quantile
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.records import FloatArray

MIN_RUNS, MIN_SIZES = 10, 3
NAMES = tuple(f"log_{curve}{part}" for curve in ("e", "B", "beta") for part in ("_at_centre", "_slope", "_bend"))
PRIOR_MEAN = np.array([0, -0.1, 0, 0, 0.2, 0, np.log(0.4), -0.08, 0])
PRIOR_SD = np.array([10.0, 0.1, 0.2, 10, 0.3, 0.2, 0.5, 0.1, 0.2])
"""The means are about those of 19 published sweeps, whose slopes of ln e lie between -.05 and -.15."""
LOW = np.array([-3.0, -1.5, -1, -9, -3, -1, np.log(0.03), -0.6, -1])
HIGH = np.array([0.0, 0.3, 1, 2.5, 3, 1, np.log(2), 0.6, 1])
"""Bounds; those of the first two levels are relative to the smallest and the largest log loss."""
START_BETAS, START_SLOPES = np.geomspace(0.15, 0.8, 5), (-0.1, 0.0, 0.1)
KEPT, SHORT, LONG = 4, 8, 60
"""Starts kept after SHORT steps from each; steps of a search while the Huber weights change, and afterwards."""
HUBER_SCALE, HUBER_CONSISTENCY, SIGMA_FLOOR = 1.5, 1.168, 5e-4
"""As in the extended law's fit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FarseerMethod:
    """One fitted law."""

    law: LawFit
    theta: FloatArray
    """Level, slope and bend of ln e, ln B and ln beta, shape (19, 9): the mode of the posterior, then points one
    standard deviation to either side of it along each axis of its covariance."""
    dof: float
    centre: tuple[float, float]
    log_runs: LogRuns

    def optimum(self, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """Log: ln N_opt and ln loss there, at ln C of shape (m,)."""
        log_c, flops = np.asarray(log_compute, dtype=np.float64), self.log_runs.flops
        log_n = farseer_optimum(self.theta, self.centre, flops, log_c)
        log_loss = farseer_log_loss(self.theta, log_n, flops.log_tokens(log_c, log_n), self.centre)
        return _spread(log_n, level, self.dof), _spread(log_loss, level, self.dof)

    def log_loss_at(self, log_n: FloatArray, log_d: FloatArray, level: float) -> Spread | None:
        """Log: ln loss at any (N, D), shape (m,)."""
        return _spread(farseer_log_loss(self.theta, log_n, log_d, self.centre), level, self.dof)


def _spread(rows: FloatArray, level: float, dof: float) -> Spread:
    """The spread of what the rows of a ``theta`` give, shape (1 + 2 x 9, m), by Student's t."""
    pairs = (len(rows) - 1) // 2
    half = t_quantile(level, dof) * np.sqrt(((rows[1 : pairs + 1] - rows[pairs + 1 :]) ** 2).sum(axis=0)) / 2
    return Spread(value=rows[0], down=half, up=half, form=np.zeros_like(half))


def fit_farseer(log_runs: LogRuns, options: FitOptions) -> FarseerMethod | LawFit:
    """Fits the law to the runs near each budget's optimum; refused where there are too few runs or sizes."""
    refusal = _refusal(log_runs)
    if refusal:
        return refused_law("farseer", refusal, len(log_runs))
    # Median loss error one and three budgets ahead on published sweeps: all runs .78 and 3.4%, within 3% .23 and .63.
    used = take_log_runs(log_runs, near_minima(log_runs, options))
    if _refusal(used):
        used = log_runs
    centre = (float(used.log_n.mean()), float(used.log_d.mean()))
    is_loss = np.array([1.0, 0, 0, 1, 0, 0, 0, 0, 0])
    low, high = LOW + is_loss * used.log_loss.min(), HIGH + is_loss * used.log_loss.max()
    problem = (used.log_n - centre[0], used.log_d - centre[1], used.log_loss, low, high)
    relevance = np.exp(options.compute_weight * (used.log_c - used.log_c.mean()))
    theta, dof, converged, reason = _posterior(problem, used, relevance * used.weight.sum() / (used.weight @ relevance))
    held = [name for name, p, lo, hi in zip(NAMES, theta[0], low, high, strict=True) if not lo < p < hi]
    log_n = farseer_optimum(theta, centre, used.flops, used.log_c_middle + np.array([-0.5, 0.5]))
    a = log_n[:, 1] - log_n[:, 0]
    b = 1 - a * used.flops.slope(log_n.mean(axis=1))
    spread = _spread(np.column_stack([theta, np.tile(centre, (len(theta), 1)), a, b]), options.level, dof)
    *parameters, a_interval, b_interval = spread.intervals(options.level)
    law = LawFit(
        name="farseer",
        outcome="at_bound" if held else "converged" if converged else "not_converged",
        reason=f"at the bound of its range: {', '.join(held)}; {reason}" if held else reason,
        parameters=dict(zip((*NAMES, "log_N_centre", "log_D_centre"), parameters, strict=True)),
        a=a_interval,
        b=b_interval,
        num_runs=len(used),
    )
    return FarseerMethod(law=law, theta=theta, dof=dof, centre=centre, log_runs=used)


def _posterior(
    problem: tuple[FloatArray, ...], runs: LogRuns, relevance: FloatArray
) -> tuple[FloatArray, float, bool, str]:
    """The ``theta`` of `FarseerMethod`, its degrees of freedom, whether the search converged, and how it ended."""
    x, y, log_loss, low, high = problem
    weight, total, sigma, robust = runs.weight * relevance, float(len(x)), 0.005, np.ones(len(x))
    theta, value, step = _maximise(problem, weight, _starts(problem, weight), sigma, SHORT)
    theta = theta[np.argsort(value, kind="stable")[:KEPT]]
    for rounds in (*[SHORT] * 6, LONG, LONG):
        prior, fitted_weight = np.diag(sigma**2 / PRIOR_SD**2), weight * robust
        theta, value, step = _maximise(problem, fitted_weight, theta, sigma, rounds)
        best = int(np.argmin(value))
        same = int((value <= value[best] + 0.01 * sigma**2).sum())
        residual = log_loss - farseer_log_loss(theta[[best]], x, y)[0]
        jacobian = farseer_jacobian(theta[[best]], x, y)[0]
        information = jacobian.T @ (jacobian * fitted_weight[:, None])
        bread = np.linalg.inv(information + prior)
        dof = max(total - float(np.trace(bread @ information)), 1.0)
        # Relevance is no statement about noise: it enters the sandwich squared, multiplicity and Huber weights do not.
        meat = jacobian.T @ (jacobian * (fitted_weight * relevance)[:, None]) + prior
        if rounds == LONG:
            sigma = max(float(np.sqrt(HUBER_CONSISTENCY * (fitted_weight @ residual**2) / dof)), SIGMA_FLOOR)
        else:
            scaled = residual * np.sqrt(runs.weight)
            sigma = max(robust_sd(scaled) * float(np.sqrt(total / dof)), SIGMA_FLOOR)
            robust = np.minimum(1.0, HUBER_SCALE * sigma / np.maximum(np.abs(scaled), 1e-300))
    variance, axes = np.linalg.eigh(bread @ meat @ bread * sigma**2 * design_effect(residual, runs.group))
    offset = np.sqrt(np.maximum(variance, 0.0))[:, None] * axes.T
    reason = f"{same} of {KEPT} starts end in this minimum; sd of log loss {sigma:.4f} on {dof:.1f} degrees of freedom"
    rows = np.clip(theta[best] + np.concatenate([np.zeros((1, len(low))), offset, -offset]), low, high)
    return rows, dof, bool(step[best] < 1e-3), reason


def farseer_log_loss(
    theta: FloatArray, log_n: FloatArray, log_d: FloatArray, centre: tuple[float, float] = (0.0, 0.0)
) -> FloatArray:
    """Log: ln L of theta (R, 9) at logs of shape (m,) or (R, m), shape (R, m); the centre is taken from the logs."""
    (log_e, log_b, log_beta), _, _ = _curves(theta, log_n - centre[0])
    return np.asarray(np.logaddexp(log_e, log_b - np.exp(log_beta) * (log_d - centre[1])))


def farseer_jacobian(theta: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Jacobian d ln L / d theta, shape (R, m, 9)."""
    (log_e, log_b, log_beta), by_slope, by_bend = _curves(theta, x)
    fall = np.exp(log_beta) * y
    share = np.exp(log_b - fall - np.logaddexp(log_e, log_b - fall))
    factor = np.stack([1 - share, share, -share * fall])
    return np.moveaxis(np.stack([factor, factor * by_slope, factor * by_bend], axis=1).reshape(9, *share.shape), 0, -1)


def _curves(theta: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Values of ln e, ln B and ln beta and their derivatives by slope and by bend, each (3, R, m)."""
    level, slope, bend = (theta.T[i::3, :, None] for i in range(3))
    z = np.clip(bend * x, -30, 30)
    z = np.where(np.abs(z) < 1e-7, 1e-7, z)  # where the quotients below are still exact to 1e-8
    ratio = np.expm1(z) / z
    values = level + slope * x * ratio
    values[2] = np.clip(values[2], -20, 3)
    return values, x * ratio, slope * x * x * (np.exp(z) - ratio) / z


def farseer_optimum(
    theta: FloatArray, centre: tuple[float, float], flops: FlopsFunction, log_compute: FloatArray
) -> FloatArray:
    """Log: ln N_opt of every row at ln C (m,), shape (R, m): the minimum along the budget nearest the middle."""

    def is_falling(log_c: FloatArray, log_n: FloatArray) -> NDArray[np.bool_]:
        left, right = (
            farseer_log_loss(theta, n, flops.log_tokens(log_c, n), centre) for n in (log_n - 1e-3, log_n + 1e-3)
        )
        return np.asarray(right < left)

    return optimum_on_budgets(is_falling, centre, flops, log_compute, cells=60, bisections=34)


def _refusal(log_runs: LogRuns) -> str | None:
    count, sizes = len(log_runs), len(np.unique(np.round(log_runs.log_n, 2)))
    if count < MIN_RUNS or sizes < MIN_SIZES:
        return f"{count} runs of {sizes} sizes for 9 parameters; at least {MIN_RUNS} runs of {MIN_SIZES} are needed."
    same_tokens = np.ptp(log_runs.log_d) < 1e-3
    return "D is the same in all runs, so its term cannot be separated from e(N)." if same_tokens else None


def _starts(problem: tuple[FloatArray, ...], weight: FloatArray) -> FloatArray:
    """For each beta and slope of ln beta: e and B linear in x by least squares, shape (15, 9)."""
    x, y, log_loss, low, high = problem
    loss, rows = np.exp(log_loss), []
    scale = np.sqrt(weight) / loss
    for beta in START_BETAS:
        for slope in START_SLOPES:
            term = np.exp(-beta * np.exp(slope * x) * y)
            basis = np.stack([np.ones_like(x), x, term, term * x], axis=1) * scale[:, None]
            e, e_slope, b, b_slope = np.linalg.lstsq(basis, loss * scale, rcond=1e-8)[0]
            e, b = np.clip(e, 0.1 * loss.min(), 0.97 * np.median(loss)), max(b, 0.01 * loss.min())
            first, second = np.clip(e_slope / e, -0.4, 0.05), np.clip(b_slope / b, -0.8, 0.8)
            rows.append([np.log(e), first, 0, np.log(b), second, 0, np.log(beta), slope, 0])
    return np.clip(np.array(rows), low, high)


def _maximise(
    problem: tuple[FloatArray, ...], weight: FloatArray, theta: FloatArray, sigma: float, rounds: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Levenberg-Marquardt on the log posterior times sigma^2: modes, their objectives, sizes of the last steps."""
    x, y, log_loss, low, high = problem
    penalty, diagonal = sigma**2 / PRIOR_SD**2, np.arange(theta.shape[1])

    def objective(candidate: FloatArray) -> FloatArray:
        residual = log_loss - farseer_log_loss(candidate, x, y)
        return np.asarray(residual**2 @ weight + (candidate - PRIOR_MEAN) ** 2 @ penalty)

    damping, last, value = np.full(len(theta), 1e-2), np.full(len(theta), np.inf), objective(theta)
    for _ in range(rounds):
        jacobian, residual = farseer_jacobian(theta, x, y), log_loss - farseer_log_loss(theta, x, y)
        weighted = (jacobian * weight[:, None]).transpose(0, 2, 1)
        curvature = weighted @ jacobian + np.diag(penalty)
        gradient = (weighted @ residual[:, :, None])[:, :, 0] - penalty * (theta - PRIOR_MEAN)
        free = ~(((theta <= low) & (gradient < 0)) | ((theta >= high) & (gradient > 0)))
        damped = curvature * (free[:, :, None] & free[:, None, :])
        damped[:, diagonal, diagonal] += damping[:, None] * curvature[:, diagonal, diagonal] + 1e-12 + ~free
        step = np.linalg.solve(damped, (gradient * free)[:, :, None])[:, :, 0]
        trial = np.clip(theta + np.clip(step, -0.7, 0.7), low, high)
        new = objective(trial)
        better = new <= value
        last = np.where(better, np.abs(trial - theta).max(1), last)
        theta, value = np.where(better[:, None], trial, theta), np.where(better, new, value)
        damping = damping * np.where(better, 0.2, 8.0)
        if last.max() < 1e-8:
            break
    return theta, value, last
