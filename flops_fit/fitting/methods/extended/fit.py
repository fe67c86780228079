"""The fit of the extended law, many rows at a time.

The priors on ln k, c1, c2, h1 and h2 hold `form.py`'s law to Chinchilla as far as noise lets them, and
ln alpha, ln beta ~ N(ln .35, .5): maximum a posteriori by Levenberg-Marquardt on log loss with Huber weights,
sigma re-estimated with effective degrees of freedom. Everything is batched, one row for each set of runs or prior.

Source: ours; research/science.md sections 2 and 3 hold the recipe and its calibration.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flops_fit.fitting.methods.extended.form import (
    LN_E,
    NUM_PARAMETERS,
    SHAPE_PARAMETERS,
    U,
    V,
    extended_jacobian,
    extended_log_loss,
)
from flops_fit.fitting.methods.extended.prior import log_evidence
from flops_fit.records import FloatArray

START_EXPONENTS = np.geomspace(0.15, 0.7, 5)
# Noise below this, sd in log loss, is not plausible: no form is right to 0.05%.
SIGMA_FLOOR = 5e-4
HUBER_ROUNDS, SIGMA_ROUNDS = 6, 3
LAST_ROUNDS = 30
HUBER_SCALE = 1.5
HUBER_CONSISTENCY = 1.168
"""The weighted mean square of normal residuals understates what a Huber estimate's variance is made of by this
factor: E psi^2 E w / (E psi')^2 over E psi z, at HUBER_SCALE (Huber 1981, section 7.6)."""
LONGEST_STEP, SHORTEST_STEP = 0.7, 1e-10


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtendedFits:
    """Posterior modes, one row for each replicate."""

    parameters: FloatArray
    """(ln E, u, v, ln alpha, ln beta, ln k, c1, c2, h1, h2), shape (R, 10)."""
    covariance: FloatArray
    """Of the parameters, shape (R, 10, 10)."""
    covariance_shape_held: FloatArray
    """The same with k, c1, c2, h1, h2 held at their values: zero in their rows and columns."""
    sigma: FloatArray
    """Sd of log loss around the law, shape (R,)."""
    dof: FloatArray
    """Runs minus effective parameters, at least 1, shape (R,)."""
    centre_n: FloatArray
    """What ln N was centred on, shape (R,)."""
    centre_d: FloatArray
    converged: FloatArray
    """1.0 where the last step was small, shape (R,)."""
    log_evidence: FloatArray
    """Log probability of the runs under the row's prior, up to a constant, shape (R,)."""


class _Data(NamedTuple):
    x: FloatArray
    y: FloatArray
    log_loss: FloatArray
    weights: FloatArray
    low: FloatArray
    high: FloatArray


def fit_extended(
    log_n: FloatArray, log_d: FloatArray, log_loss: FloatArray, weights: FloatArray, mean: FloatArray, prior: FloatArray
) -> ExtendedFits:
    """Fits every row.

    Args:
        log_n: ln N, shape (R, n).
        log_d: ln D, shape (R, n).
        log_loss: ln loss, shape (R, n).
        weights: Weight of each run; 0 leaves it out, shape (R, n).
        mean: Of the prior, shape (10,).
        prior: Its precision, shape (R, 10, 10).
    """
    total = weights.sum(1)
    centre_n, centre_d = ((weights * c).sum(1) / total for c in (log_n, log_d))
    lowest = np.where(weights > 0, log_loss, np.inf).min(1)
    low, high = extended_bounds(lowest)
    data = _Data(log_n - centre_n[:, None], log_d - centre_d[:, None], log_loss, weights, low, high)
    parameters = _start(data)
    robust = np.ones_like(weights)
    sigma = np.full(len(weights), 0.01)
    for _ in range(HUBER_ROUNDS):
        parameters, _ = _maximise(data, weights * robust, parameters, mean, prior, sigma, rounds=5)
        residual = log_loss - extended_log_loss(parameters, data.x, data.y)
        _, dof = _freedom(data, weights * robust, parameters, prior, sigma)
        sigma = np.maximum(_robust_sd(residual, weights) * np.sqrt(total / dof), SIGMA_FLOOR)
        robust = np.minimum(1.0, HUBER_SCALE * sigma[:, None] / np.maximum(np.abs(residual), 1e-300))
    w = weights * robust
    for last in (*[False] * (SIGMA_ROUNDS - 1), True):
        rounds = LAST_ROUNDS if last else 8
        parameters, step = _maximise(data, w, parameters, mean, prior, sigma, rounds=rounds)
        misfit = (w * (log_loss - extended_log_loss(parameters, data.x, data.y)) ** 2).sum(1)
        information, dof = _freedom(data, w, parameters, prior, sigma)
        sigma = np.maximum(np.sqrt(HUBER_CONSISTENCY * misfit / dof), SIGMA_FLOOR)
    held = [i for i in range(NUM_PARAMETERS) if i not in SHAPE_PARAMETERS]
    return ExtendedFits(
        parameters=parameters,
        covariance=_covariance(data, w, parameters, prior, sigma, list(range(NUM_PARAMETERS))),
        covariance_shape_held=_covariance(data, w, parameters, prior, sigma, held),
        sigma=sigma,
        dof=dof,
        centre_n=centre_n,
        centre_d=centre_d,
        converged=(step < 1e-3).astype(np.float64),
        log_evidence=log_evidence(misfit, total, sigma, parameters - mean, information, prior),
    )


def extended_bounds(lowest: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bounds of the parameters, each (R, 10); ``lowest`` is the ln of each row's smallest loss."""
    low = np.tile([0.0, -14.0, -14.0, np.log(0.03), np.log(0.03), -1.2, -0.2, -0.2, -0.5, -0.5], (len(lowest), 1))
    high = np.tile([0.0, 6.0, 6.0, np.log(2.5), np.log(2.5), 1.2, 0.2, 0.2, 0.5, 0.5], (len(lowest), 1))
    low[:, LN_E] = lowest + np.log(0.02)
    high[:, LN_E] = lowest + np.log(0.995)
    for bound in (low, high):
        bound[:, [U, V]] += lowest[:, None]
    return low, high


def _start(data: _Data) -> FloatArray:
    """Best of a 5 x 5 grid of exponents, E, A, B by clipped weighted least squares."""
    loss = np.exp(data.log_loss)
    lowest = np.where(data.weights > 0, loss, np.inf).min(1)
    w = data.weights / loss**2
    best = np.full(len(loss), np.inf)
    chosen = np.zeros((len(loss), NUM_PARAMETERS))
    for alpha in START_EXPONENTS:
        for beta in START_EXPONENTS:
            basis = np.stack([np.ones_like(loss), np.exp(-alpha * data.x), np.exp(-beta * data.y)], axis=1)
            normal = (basis * w[:, None, :]) @ basis.transpose(0, 2, 1)
            normal[:, range(3), range(3)] *= 1 + 1e-9
            right = (basis @ (w * loss)[:, :, None])[:, :, 0]
            terms = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
            terms[:, 0] = np.clip(terms[:, 0], 0.05 * lowest, 0.98 * lowest)
            terms[:, 1:] = np.maximum(terms[:, 1:], 0.01 * lowest[:, None])
            sse = (w * (loss - np.einsum("ri,rin->rn", terms, basis)) ** 2).sum(1)
            better = sse < best
            best = np.where(better, sse, best)
            fixed = np.full((len(loss), 2), [np.log(alpha), np.log(beta)])
            candidate = np.concatenate([np.log(terms), fixed, np.zeros((len(loss), len(SHAPE_PARAMETERS)))], axis=1)
            chosen[better] = candidate[better]
    return np.clip(chosen, data.low, data.high)


def _maximise(
    data: _Data,
    weights: FloatArray,
    parameters: FloatArray,
    mean: FloatArray,
    prior: FloatArray,
    sigma: FloatArray,
    rounds: int,
) -> tuple[FloatArray, FloatArray]:
    """Levenberg-Marquardt on the log posterior times sigma^2; returns the mode and the last step's size."""
    penalty = sigma[:, None, None] ** 2 * prior
    damping = np.full(len(weights), 1e-3)
    value = _penalised(data, weights, parameters, mean, penalty)
    size = np.full(len(weights), np.inf)
    diagonal = np.arange(NUM_PARAMETERS)
    for _ in range(rounds):
        residual = data.log_loss - extended_log_loss(parameters, data.x, data.y)
        jacobian = extended_jacobian(parameters, data.x, data.y)
        weighted = jacobian * weights[..., None]
        curvature = weighted.transpose(0, 2, 1) @ jacobian + penalty
        gradient = np.einsum("rni,rn->ri", weighted, residual) - np.einsum("rij,rj->ri", penalty, parameters - mean)
        scale = np.einsum("rii->ri", curvature)
        damped = curvature.copy()
        damped[:, diagonal, diagonal] += damping[:, None] * scale + 1e-12
        step = np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
        trial = np.clip(parameters + np.clip(step, -LONGEST_STEP, LONGEST_STEP), data.low, data.high)
        new = _penalised(data, weights, trial, mean, penalty)
        better = new <= value
        size = np.where(better, np.abs(trial - parameters).max(1), size)
        parameters = np.where(better[:, None], trial, parameters)
        value = np.where(better, new, value)
        damping = np.where(better, damping * 0.2, damping * 10)
        if size.max() < SHORTEST_STEP:
            break
    return parameters, size


def _penalised(
    data: _Data, weights: FloatArray, parameters: FloatArray, mean: FloatArray, penalty: FloatArray
) -> FloatArray:
    residual = data.log_loss - extended_log_loss(parameters, data.x, data.y)
    off = parameters - mean
    return np.asarray((weights * residual**2).sum(1) + np.einsum("ri,rij,rj->r", off, penalty, off))


def _freedom(
    data: _Data, weights: FloatArray, parameters: FloatArray, prior: FloatArray, sigma: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Information J' W J, (R, 10, 10), and the degrees of freedom that the runs have left, at least 1, (R,)."""
    information = _information(data, weights, parameters)
    used = np.einsum("rii->r", np.linalg.solve(information + sigma[:, None, None] ** 2 * prior, information))
    return information, np.maximum(data.weights.sum(1) - used, 1.0)


def _information(data: _Data, weights: FloatArray, parameters: FloatArray) -> FloatArray:
    jacobian = extended_jacobian(parameters, data.x, data.y)
    return np.asarray((jacobian * weights[..., None]).transpose(0, 2, 1) @ jacobian)


def _covariance(
    data: _Data, weights: FloatArray, parameters: FloatArray, prior: FloatArray, sigma: FloatArray, free: list[int]
) -> FloatArray:
    """Sandwich A^-1 (J' W^2 J + P) A^-1 sigma^2 with A = J' W J + P, over the free parameters.

    Weights express relevance, not noise; with weights of one it is A^-1 sigma^2. Robust
    weights are meant as noise, and runs of weight w < 1 count as w here.
    """
    index = np.ix_(range(len(weights)), free, free)
    scaled_prior = (sigma[:, None, None] ** 2 * prior)[index]
    bread = np.linalg.inv(_information(data, weights, parameters)[index] + scaled_prior)
    meat = _information(data, weights * data.weights, parameters)[index] + scaled_prior
    out = np.zeros((len(weights), NUM_PARAMETERS, NUM_PARAMETERS))
    out[index] = bread @ meat @ bread * sigma[:, None, None] ** 2
    return out


def _robust_sd(residual: FloatArray, weights: FloatArray) -> FloatArray:
    """1.4826 times the median absolute residual of the runs that enter, by row."""
    return np.asarray(1.4826 * np.nanmedian(np.where(weights > 0, np.abs(residual), np.nan), axis=1))
