"""The parametric fit: E, A, B, alpha, beta of L(N, D) = E + A/N^alpha + B/D^beta, for many resamples at once.

Every resample has its own global search (`projection.py`); its best cells are refined to the exact minimum
of the chosen objective by Newton's method, batched. With z_i the three log terms, log L = logsumexp(z), so
the gradient is a softmax and the Hessian is exact and cheap. Steps are damped with the curvature of
iteratively reweighted least squares, a majorizer of Huber's function, so that a rejected step is always
followed by a shorter safe one.

Source: the law is Hoffmann et al. 2022 (arXiv:2203.15556) eq. 2; the objective its eq. 3, summed and not
averaged (Besiroglu et al. 2024, arXiv:2404.10102, on the early stop that averaging caused).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.methods.chinchilla.projection import search_exponents
from flops_fit.fitting.options import Objective
from flops_fit.records import FloatArray

# Rows of one batch: keeps the (resamples, cells) and (resamples, runs) blocks inside the cache.
MAX_BLOCK = 40_000
EXPONENT_BOUNDS = (0.01, 3.0)
# ln E, ln A, ln B (centred) may fall this far below the smallest loss before they count as zero.
LOG_TERM_FLOOR = -9.0
# A start that is still this much worse than its resample's best after the first round is dropped.
FIRST_ROUND = 6
MAX_ITERATIONS = 150


@dataclass(frozen=True, kw_only=True, eq=False)
class ParametricProblem:
    """The runs and the objective, shared by all resamples."""

    x: FloatArray
    """Log: ln N minus ``centre[0]``, shape (n,)."""
    y: FloatArray
    """Log: ln D minus ``centre[1]``, shape (n,)."""
    log_loss: FloatArray
    objective: Objective
    delta: float
    centre: tuple[float, float]


class ParametricFits(NamedTuple):
    """Minimisers, one row for each resample."""

    theta: FloatArray
    """(ln E, a, b, alpha, beta) with z = (ln E, a - alpha x, b - beta y), shape (R, 5)."""
    objective: FloatArray
    converged: NDArray[np.bool_]


class _State(NamedTuple):
    """Objective, gradient and the two curvatures at one theta, leading shape (S,)."""

    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    majorizer: FloatArray


def make_problem(
    log_n: FloatArray, log_d: FloatArray, log_loss: FloatArray, objective: Objective, delta: float
) -> ParametricProblem:
    """Centres the logs, which takes the condition number of the problem from 1e11 to 1e2."""
    centre = (float(log_n.mean()), float(log_d.mean()))
    x, y = log_n - centre[0], log_d - centre[1]
    return ParametricProblem(x=x, y=y, log_loss=log_loss, objective=objective, delta=delta, centre=centre)


def fit_parametric(
    problem: ParametricProblem, weights: FloatArray, *, keep: int = 3, tolerance: float = 1e-9
) -> ParametricFits:
    """Finds the global minimum for every row of weights (R, n), which are multiplicities for a bootstrap.

    ``keep`` separate cells of the grid are refined for each row, until the objective decreases relatively by less than
    ``tolerance``.
    """
    rows = max(1, MAX_BLOCK // max(len(problem.x), 676))
    parts = [_fit_block(problem, weights[i : i + rows], keep, tolerance) for i in range(0, len(weights), rows)]
    return ParametricFits(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def bounds_of(problem: ParametricProblem) -> tuple[FloatArray, FloatArray]:
    """Lower and upper bounds of theta, each of shape (5,)."""
    low, high = float(problem.log_loss.min()), float(problem.log_loss.max())
    (least, most), floor = EXPONENT_BOUNDS, low + LOG_TERM_FLOOR
    return np.array([floor, floor, floor, least, least]), np.array([low, high + 3.0, high + 3.0, most, most])


def parametric_information(problem: ParametricProblem, weights: FloatArray, theta: FloatArray) -> FloatArray:
    """J' W J of the log loss, scaled to a unit diagonal, shape (S, 5, 5)."""
    information = _evaluate(replace(problem, objective="squared_log"), weights, theta).majorizer
    scale = np.sqrt(np.einsum("sii->si", information)) + 1e-300
    return np.asarray(information / (scale[:, :, None] * scale[:, None, :]))


def _fit_block(problem: ParametricProblem, weights: FloatArray, keep: int, tolerance: float) -> ParametricFits:
    starts = search_exponents(problem.x, problem.y, np.exp(problem.log_loss), weights, keep)
    count = len(weights)
    theta = np.concatenate([np.log(starts.terms), starts.exponents], axis=-1)
    fresh = np.ones((count, keep), dtype=bool)
    fresh[:, 1:] = np.any(starts.exponents[:, 1:] != starts.exponents[:, :1], axis=-1)
    row, _ = np.nonzero(fresh)
    first, states = _newton(problem, weights[row], theta[fresh], tolerance, FIRST_ROUND)
    # Rows of one resample stand together; all of a resample's starts within 2% of its best continue.
    best = np.full(count, np.inf)
    np.minimum.at(best, row, first.objective)
    alive = first.objective <= best[row] * 1.02 + 1e-300
    row = row[alive]
    final, _ = _newton(problem, weights[row], first.theta[alive], tolerance, MAX_ITERATIONS, states[alive])
    stuck = ~final.converged
    if stuck.any():
        # Kinks of Huber's function can leave the damping too high for a flat valley: start it afresh.
        again, _ = _newton(problem, weights[row[stuck]], final.theta[stuck], tolerance, MAX_ITERATIONS)
        for part, new in zip(final, again, strict=True):
            part[stuck] = new
    order = np.lexsort((final.objective, row))
    chosen = order[np.searchsorted(row[order], np.arange(count))]
    return ParametricFits(final.theta[chosen], final.objective[chosen], final.converged[chosen])


def _newton(
    problem: ParametricProblem,
    weights: FloatArray,
    theta: FloatArray,
    tolerance: float,
    iterations: int,
    damping: FloatArray | None = None,
) -> tuple[ParametricFits, FloatArray]:
    """Damped Newton, each row with its own damping; rows leave the batch when they have converged."""
    low, high = bounds_of(problem)
    theta = np.clip(theta, low, high)
    damping = np.full(len(theta), 1.0) if damping is None else damping.copy()
    converged = np.zeros(len(theta), dtype=bool)
    active, w = np.arange(len(theta)), weights
    state = _evaluate(problem, weights, theta)
    value = state.value.copy()
    for _ in range(iterations):
        step = _damped_step(state, theta[active], damping[active], low, high)
        trial = np.clip(theta[active] + step, low, high)
        new = _evaluate(problem, w, trial)
        gain = state.value - new.value
        accepted = gain >= 0
        theta[active[accepted]] = trial[accepted]
        value[active[accepted]] = new.value[accepted]
        grown = np.where(accepted, damping[active] / 6.0, damping[active] * 8.0 + 1e-3)
        damping[active] = np.where(grown < 1e-9, 0.0, grown)
        small = np.abs(step).max(axis=1) < 1e-10
        done = (accepted & (gain <= tolerance * new.value) & (damping[active] < 0.05)) | small
        done |= damping[active] > 1e12
        converged[active[done]] = True
        state = _merge(accepted, new, state)
        if done.any():
            left = ~done
            active, w = active[left], w[left]
            state = _State(*(part[left] for part in state))
            if not len(active):
                break
    return ParametricFits(theta, value, converged), damping


def _merge(accepted: NDArray[np.bool_], new: _State, old: _State) -> _State:
    if accepted.all():
        return new
    # Transposed, every part has its rows last, where they broadcast.
    return _State(*(np.where(accepted, a.T, b.T).T for a, b in zip(new, old, strict=True)))


def _damped_step(
    state: _State, theta: FloatArray, damping: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Solves (H + damping M) step = -g, parameters at an active bound held fixed."""
    gradient = state.gradient
    held = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    matrix = state.hessian + damping[:, None, None] * state.majorizer
    scale = np.sqrt(np.einsum("sii->si", state.majorizer)) + 1e-12
    scale = np.maximum(scale, 1e-9 * scale.max(axis=1, keepdims=True))
    matrix = matrix / (scale[:, :, None] * scale[:, None, :])
    free = ~held
    matrix = matrix * free[:, :, None] * free[:, None, :]
    diagonal = np.arange(theta.shape[1])
    matrix[:, diagonal, diagonal] += held + 1e-12 + 1e-6 * damping[:, None]
    right = np.where(held, 0.0, -gradient / scale)
    values, vectors = np.linalg.eigh(matrix)
    # Negative curvature is followed downhill: a Newton step towards a saddle would stall.
    inverse = 1.0 / np.maximum(np.abs(values), 1e-9)
    turned = (vectors.transpose(0, 2, 1) @ right[:, :, None])[:, :, 0]
    step = (vectors @ (inverse * turned)[:, :, None])[:, :, 0] / scale
    longest = np.abs(step).max(axis=1, keepdims=True)
    return np.asarray(step * np.minimum(1.0, 1.5 / np.maximum(longest, 1e-300)))


def _softmax(problem: ParametricProblem, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Shares of the three terms in the model's loss, and its log; each (S, n) but the first, (S, n) too."""
    t2 = np.exp(np.clip(theta[:, 1:2] - theta[:, 3:4] * problem.x, -80, 80))
    t3 = np.exp(np.clip(theta[:, 2:3] - theta[:, 4:5] * problem.y, -80, 80))
    t1 = np.exp(theta[:, :1])
    model = t1 + t2 + t3
    return t1 / model, t2 / model, t3 / model, np.log(model)


def _loss_terms(
    problem: ParametricProblem, weights: FloatArray, log_model: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Objective (S,), and per run: slope for the gradient, curvature, majorizing curvature, each (S, n)."""
    if problem.objective == "squared":
        model = np.exp(log_model)
        r = np.exp(problem.log_loss) - model
        return 0.5 * (weights * r * r).sum(1), weights * r * model, weights * model * model, weights * model**2
    r = problem.log_loss - log_model
    if problem.objective == "squared_log":
        wr = weights * r
        return 0.5 * (wr * r).sum(1), wr, weights + wr, weights
    size = np.abs(r)
    slope = weights * np.clip(r, -problem.delta, problem.delta)
    inner = np.minimum(size, problem.delta)
    value = (weights * inner * (size - 0.5 * inner)).sum(1)
    majorizing = weights * (problem.delta / np.maximum(size, problem.delta))
    return value, slope, weights * (size < problem.delta) + slope, majorizing


def _evaluate(problem: ParametricProblem, weights: FloatArray, theta: FloatArray) -> _State:
    """Everything Newton needs; the Hessian is exact (see the module's docstring)."""
    p1, p2, p3, log_model = _softmax(problem, theta)
    value, slope, curvature, majorizing = _loss_terms(problem, weights, log_model)
    x, y = problem.x, problem.y
    jacobian = np.empty((len(theta), 5, len(x)))
    jacobian[:, 0], jacobian[:, 1], jacobian[:, 2] = p1, p2, p3
    np.multiply(p2, -x, out=jacobian[:, 3])
    np.multiply(p3, -y, out=jacobian[:, 4])
    transposed = jacobian.transpose(0, 2, 1)
    gradient = -(jacobian @ slope[:, :, None])[:, :, 0]
    hessian = (jacobian * curvature[:, None, :]) @ transposed
    majorizer = (jacobian * majorizing[:, None, :]) @ transposed
    # minus sum of slope * sum_i p_i z_i z_i^T, z_i the rows (1,0,0,0,0), (0,1,0,-x,0), (0,0,1,0,-y)
    moments_x = (slope * p2) @ np.stack([np.ones_like(x), x, x * x], axis=1)
    moments_y = (slope * p3) @ np.stack([np.ones_like(y), y, y * y], axis=1)
    hessian[:, 0, 0] -= (slope * p1).sum(1)
    for term, exponent, moments in ((1, 3, moments_x), (2, 4, moments_y)):
        hessian[:, term, term] -= moments[:, 0]
        hessian[:, term, exponent] += moments[:, 1]
        hessian[:, exponent, term] += moments[:, 1]
        hessian[:, exponent, exponent] -= moments[:, 2]
    return _State(value, gradient, hessian, majorizer)
