"""The form of the extended law: its loss and its derivatives.

    L = E + (T1^(1/k) + T2^(1/k))^k
    ln T1 = u - alpha x + c1 x^2
    ln T2 = v - beta y + c2 y^2 + h1 e^(-y/2) + h2 e^(-y)

with x, y centred ln N, ln D; Chinchilla is k = 1 and the others 0. k sets how the two terms mix, c1 and c2 how they
bend, h1 and h2 what short runs lose beyond a power law of D. Tokens that are wasted at the start cost B (D - W)^-beta,
about B D^-beta (1 + beta W / D), which is h2; what an optimiser has not averaged out fades more slowly, as h1 does.

Source: ours; research/science.md sections 2 and 3 hold the form without h1 and h2 and its calibration.
"""

import numpy as np

from flops_fit.records import FloatArray

NUM_PARAMETERS = 10
LN_E, U, V, LN_ALPHA, LN_BETA, LN_K, C1, C2, H1, H2 = range(NUM_PARAMETERS)
SHAPE_PARAMETERS = (LN_K, C1, C2, H1, H2)
SHORTEST = -6.0
"""Below this y, which no run reaches, the excess loss of short runs stops growing."""


def extended_log_loss(parameters: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Log: ln L of parameters (R, 10) at centred logs (R, m) or (m,), shape (R, m)."""
    log_term, _, _ = _log_reducible(parameters, x, y)
    return np.logaddexp(parameters[:, [LN_E]], log_term)


def extended_jacobian(parameters: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Jacobian d ln L / d parameters, shape (R, m, 10)."""
    x, y = np.broadcast_arrays(*(np.atleast_2d(v) for v in (x, y)))
    log_term, share, entropy = _log_reducible(parameters, x, y)
    log_loss = np.logaddexp(parameters[:, [LN_E]], log_term)
    reducible = np.exp(log_term - log_loss)
    out = np.empty((*log_loss.shape, NUM_PARAMETERS))
    first, second = reducible * share, reducible * (1 - share)
    half = _half_shortness(y)
    out[..., LN_E] = 1 - reducible
    out[..., U], out[..., V] = first, second
    out[..., LN_ALPHA] = -first * x * np.exp(parameters[:, [LN_ALPHA]])
    out[..., LN_BETA] = -second * y * np.exp(parameters[:, [LN_BETA]])
    out[..., LN_K] = reducible * entropy * np.exp(parameters[:, [LN_K]])
    out[..., C1], out[..., C2] = first * x * x, second * y * y
    out[..., H1], out[..., H2] = second * half, second * half**2
    return out


def log_loss_slope(parameters: FloatArray, x: FloatArray, y: FloatArray, cost_slope: FloatArray) -> FloatArray:
    """Slope d ln L / d ln N along one budget, where ln D falls by ``cost_slope`` per e-fold of N; (R, m)."""
    log_term, share, _ = _log_reducible(parameters, x, y)
    reducible = np.exp(log_term - np.logaddexp(parameters[:, [LN_E]], log_term))
    down = -np.exp(parameters[:, [LN_ALPHA]]) + 2 * parameters[:, [C1]] * x
    half = np.where(y > SHORTEST, _half_shortness(y), 0.0)
    fading = 0.5 * parameters[:, [H1]] * half + parameters[:, [H2]] * half**2
    up = -np.exp(parameters[:, [LN_BETA]]) + 2 * parameters[:, [C2]] * y - fading
    return np.asarray(reducible * (share * down - (1 - share) * up * cost_slope))


def _log_reducible(parameters: FloatArray, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log: ln (L - E), the share of T1^(1/k) in the sum, and the entropy of the two shares."""
    p = [parameters[:, i : i + 1] for i in range(NUM_PARAMETERS)]
    k, half = np.exp(p[LN_K]), _half_shortness(y)
    first = (p[U] - np.exp(p[LN_ALPHA]) * x + p[C1] * x * x) / k
    second = (p[V] - np.exp(p[LN_BETA]) * y + p[C2] * y * y + p[H1] * half + p[H2] * half**2) / k
    total = np.logaddexp(first, second)
    share = np.exp(first - total)
    entropy = total - share * first - (1 - share) * second
    return k * total, share, entropy


def _half_shortness(y: FloatArray) -> FloatArray:
    """e^(-y/2): the root of the runs' geometric mean of D over D."""
    return np.asarray(np.exp(-0.5 * np.maximum(y, SHORTEST)))
