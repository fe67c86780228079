"""The optimum of a parametric law on one budget, with the user's own FLOPs."""

import numpy as np

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.records import FloatArray

REACH = 40.0
"""Bisection looks this many e-folds of N to either side: 17 decades."""
BISECTIONS = 60


def parametric_optimum(
    theta: FloatArray, centre: tuple[float, float], flops: FlopsFunction, log_compute: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Solves min over N of E + A/N^alpha + B/D^beta on C = k(N) N D.

    The condition is alpha A N^-alpha = s(N) beta B D^-beta with s = d ln(C/D) / d ln N, which is 1 for a
    constant k, where the solution is closed (Hoffmann et al. 2022 eq. 4). Otherwise it is bisected in ln N.

    Args:
        theta: (ln E, a, b, alpha, beta) for centred logs, shape (R, 5).
        centre: What ln N and ln D are centred on.
        flops: The user's FLOPs per token.
        log_compute: ln C, shape (m,).

    Returns:
        ln N_opt and ln L there, each (R, m).
    """
    log_e, a, b, alpha, beta = (theta[:, [i]] for i in range(5))
    log_c = np.asarray(log_compute, dtype=np.float64)[None, :]
    left = np.log(alpha) + a + alpha * centre[0]
    right = np.log(beta) + b + beta * centre[1]
    log_k = float(np.median(flops.log_ratio))
    log_n = (left - right + beta * (log_c - log_k)) / (alpha + beta)
    if not flops.is_constant:
        low, high = log_n - REACH, log_n + REACH
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            gain = left - alpha * middle - right + beta * flops.log_tokens(log_c, middle)
            larger = gain - np.log(flops.slope(middle)) > 0
            low, high = np.where(larger, middle, low), np.where(larger, high, middle)
        log_n = 0.5 * (low + high)
    log_d = flops.log_tokens(log_c, log_n)
    loss = np.exp(log_e) + np.exp(a - alpha * (log_n - centre[0])) + np.exp(b - beta * (log_d - centre[1]))
    return log_n, np.log(loss)
