"""The fit of the extended law under several priors at once.

The priors hold `form.py`'s law to Chinchilla as far as noise lets them: maximum a posteriori by Levenberg-Marquardt on
log loss with Huber weights, sigma re-estimated with effective degrees of freedom. Everything is batched, one row for
each prior.

Source: ours; research/science.md sections 2 and 3 hold the recipe and its calibration.
"""

from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.methods.extended.form import LN_ALPHA, LN_BETA, LN_E, NUM_PLAIN, Basis, Form, U, V
from flops_fit.fitting.methods.extended.prior import Priors, log_evidence
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
LONGEST_STEP, SHORTEST_STEP = 0.7, 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """The runs and the law's form for them."""

    form: Form
    x: FloatArray
    """Centred ln N, shape (n,)."""
    y: FloatArray
    """Centred ln D."""
    basis: Basis
    log_loss: FloatArray
    weights: FloatArray
    """Relevance times relative precision."""
    relevance: FloatArray
    """What a run counts for beyond what its noise says, such as a large budget."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtendedFits:
    """Posterior modes, one row for each prior."""

    rows: FloatArray
    """Parameters, shape (R, p)."""
    covariance: FloatArray
    """Of the parameters, shape (R, p, p)."""
    covariance_shape_held: FloatArray
    """The same with k, h and the walks held at their values: zero in their rows and columns."""
    sigma: FloatArray
    """Sd of log loss around the law, shape (R,)."""
    dof: FloatArray
    """Runs minus effective parameters, at least 1, shape (R,)."""
    converged: FloatArray
    """1.0 where the last step was small, shape (R,)."""
    log_evidence: FloatArray
    """Log probability of the runs under the row's prior, up to a constant, shape (R,)."""


def fit_extended(problem: Problem, priors: Priors) -> ExtendedFits:
    """Fits the runs under every prior."""
    count, total = len(priors.precision), float(len(problem.x))  # A condensed row is one residual, of a mean.
    rows = np.repeat(_start(problem)[None], count, axis=0)
    w = np.repeat(problem.weights[None], count, axis=0)
    sigma = np.full(count, 0.01)
    for _ in range(HUBER_ROUNDS):
        rows, _ = _maximise(problem, w, rows, priors, sigma, 5, 1e-2)
        log_loss, jacobian = problem.form.log_loss(rows, problem.basis)
        size = np.abs(problem.log_loss - log_loss) * np.sqrt(problem.weights / problem.relevance)
        dof = _freedom(_information(jacobian, w), priors.precision, sigma, total)
        sigma = np.maximum(1.4826 * np.median(size, axis=1) * np.sqrt(total / dof), SIGMA_FLOOR)
        w = problem.weights * np.minimum(1.0, HUBER_SCALE * sigma[:, None] / np.maximum(size, 1e-300))
    for last in (*[False] * (SIGMA_ROUNDS - 1), True):
        rounds, shortest = (LAST_ROUNDS, SHORTEST_STEP) if last else (8, 1e-3)
        rows, step = _maximise(problem, w, rows, priors, sigma, rounds, shortest)
        log_loss, jacobian = problem.form.log_loss(rows, problem.basis)
        misfit = (w * (problem.log_loss - log_loss) ** 2).sum(1)
        information = _information(jacobian, w)
        dof = _freedom(information, priors.precision, sigma, total)
        sigma = np.maximum(np.sqrt(HUBER_CONSISTENCY * misfit / dof), SIGMA_FLOOR)
    matrices = information, _information(jacobian, w * problem.relevance), priors.precision, sigma
    return ExtendedFits(
        rows=rows,
        covariance=_covariance(*matrices, list(range(rows.shape[1]))),
        covariance_shape_held=_covariance(*matrices, [LN_E, U, V, LN_ALPHA, LN_BETA]),
        sigma=sigma,
        dof=dof,
        converged=(step < 1e-3).astype(np.float64),
        log_evidence=log_evidence(misfit, total, sigma, rows - priors.mean, information, priors.precision),
    )


def bounds(lowest: float, num_parameters: int) -> tuple[FloatArray, FloatArray]:
    """Bounds of the parameters, each (p,); ``lowest`` is the ln of the smallest loss."""
    low, high = np.full((2, num_parameters), [[-6.0], [6.0]])
    low[:NUM_PLAIN] = lowest + np.log(0.02), lowest - 14, lowest - 14, np.log(0.03), np.log(0.03), -1.2, -0.5
    high[:NUM_PLAIN] = lowest + np.log(0.995), lowest + 6, lowest + 6, np.log(2.5), np.log(2.5), 1.2, 0.5
    return low, high


def _start(problem: Problem) -> FloatArray:
    """Best of a 5 x 5 grid of exponents, E, A, B by clipped weighted least squares; one row."""
    loss = np.exp(problem.log_loss)
    w = problem.weights / loss**2
    alpha, beta = (e.reshape(-1, 1) for e in np.meshgrid(START_EXPONENTS, START_EXPONENTS))
    basis = np.stack([np.ones((len(alpha), len(loss))), np.exp(-alpha * problem.x), np.exp(-beta * problem.y)], axis=1)
    normal = (basis * w) @ basis.transpose(0, 2, 1)
    normal[:, range(3), range(3)] *= 1 + 1e-9
    terms = np.linalg.solve(normal, (basis @ (w * loss))[:, :, None])[:, :, 0]
    terms[:, 0] = np.clip(terms[:, 0], 0.05 * loss.min(), 0.98 * loss.min())
    terms[:, 1:] = np.maximum(terms[:, 1:], 0.01 * loss.min())
    best = int(np.argmin((w * (loss - np.einsum("gi,gin->gn", terms, basis)) ** 2).sum(1)))
    row = np.zeros(problem.form.num_parameters)
    row[[LN_E, U, V]] = np.log(terms[best])
    row[[LN_ALPHA, LN_BETA]] = np.log([alpha[best, 0], beta[best, 0]])
    return np.clip(row, *bounds(float(problem.log_loss.min()), len(row)))


def _maximise(
    problem: Problem,
    weights: FloatArray,
    rows: FloatArray,
    priors: Priors,
    sigma: FloatArray,
    rounds: int,
    shortest: float,
) -> tuple[FloatArray, FloatArray]:
    """Levenberg-Marquardt on the log posterior times sigma^2; returns the mode and the last step's size.

    It ends after so many rounds, or where no step is longer than ``shortest``.
    """
    low, high = bounds(float(problem.log_loss.min()), rows.shape[1])
    penalty, diagonal = sigma[:, None, None] ** 2 * priors.precision, np.arange(rows.shape[1])
    damping, size = np.full(len(rows), 1e-3), np.full(len(rows), np.inf)

    def evaluate(at: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        log_loss, jacobian = problem.form.log_loss(at, problem.basis)
        residual, off = problem.log_loss - log_loss, at - priors.mean
        return (weights * residual**2).sum(1) + np.einsum("ri,rij,rj->r", off, penalty, off), residual, jacobian

    value, residual, jacobian = evaluate(rows)
    for _ in range(rounds):
        gradient = np.einsum("rni,rn->ri", jacobian, weights * residual)
        gradient -= np.einsum("rij,rj->ri", penalty, rows - priors.mean)
        damped = _information(jacobian, weights) + penalty
        damped[:, diagonal, diagonal] *= 1 + damping[:, None]
        damped[:, diagonal, diagonal] += 1e-12
        step = np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
        trial = np.clip(rows + np.clip(step, -LONGEST_STEP, LONGEST_STEP), low, high)
        new, new_residual, new_jacobian = evaluate(trial)
        better = new <= value
        size = np.where(better, np.abs(trial - rows).max(1), size)
        rows, value = np.where(better[:, None], trial, rows), np.where(better, new, value)
        residual = np.where(better[:, None], new_residual, residual)
        jacobian = np.where(better[:, None, None], new_jacobian, jacobian)
        damping = np.where(better, damping * 0.2, damping * 10)
        if size.max() < shortest:
            break
    return rows, size


def _information(jacobian: FloatArray, weights: FloatArray) -> FloatArray:
    return np.asarray((jacobian * weights[..., None]).transpose(0, 2, 1) @ jacobian)


def _freedom(information: FloatArray, prior: FloatArray, sigma: FloatArray, total: float) -> FloatArray:
    """Degrees of freedom that the runs have left, at least 1, shape (R,)."""
    used = np.einsum("rii->r", np.linalg.solve(information + sigma[:, None, None] ** 2 * prior, information))
    return np.asarray(np.maximum(total - used, 1.0))


def _covariance(
    information: FloatArray, squared: FloatArray, prior: FloatArray, sigma: FloatArray, free: list[int]
) -> FloatArray:
    """Sandwich A^-1 (J' W^2 J + P) A^-1 sigma^2 with A = J' W J + P, over the free parameters.

    With a relevance of one it is A^-1 sigma^2: precisions and robust weights stand for noise.
    """
    index = np.ix_(range(len(sigma)), free, free)
    scale = sigma[:, None, None] ** 2
    bread = np.linalg.inv((information + scale * prior)[index])
    out = np.zeros_like(information)
    out[index] = bread @ (squared + scale * prior)[index] @ bread * scale
    return out
