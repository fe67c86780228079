"""The optimum of a law on one budget, with the user's own FLOPs."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.records import FloatArray

REACH = 40.0
"""Bisection of Chinchilla's law looks this many e-folds of N to either side: 17 decades."""
BISECTIONS = 60
SEARCHED = 12.0
"""Other laws' optima are looked for this many e-folds of N around the middle of the runs."""


def parametric_optimum(
    theta: FloatArray, centre: tuple[float, float], flops: FlopsFunction, log_compute: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Solves min over N of E + A/N^alpha + B/D^beta on C = k(N) N D, ln C (m,): ln N_opt and ln L there, each (R, m).

    The rows of theta, (R, 5), are (ln E, a, b, alpha, beta) for logs centred on ``centre``. The condition is
    alpha A N^-alpha = s(N) beta B D^-beta with s = d ln(C/D) / d ln N, which is 1 for a constant k, where the solution
    is closed (Hoffmann et al. 2022 eq. 4). Otherwise it is bisected in ln N.
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


def optimum_on_budgets(
    larger_pays: Callable[[FloatArray, FloatArray], NDArray[np.bool_]],
    centre: tuple[float, float],
    flops: FlopsFunction,
    log_compute: FloatArray,
    *,
    cells: int = 48,
    bisections: int = 30,
) -> FloatArray:
    """Log: ln N_opt of every row of a law at ln C (m,), shape (R, m): where ``larger_pays`` turns false along a budget.

    That function states whether the loss falls with N, shape (R, k), at ln C (k,) and ln N (R, k) or (1, k). Of several
    turns the one nearest the middle of the runs, ``centre`` in ln N and ln D, is taken, on a grid refined by bisection;
    where there is none, the end of the grid towards which the loss falls.
    """
    grid = np.linspace(-SEARCHED, SEARCHED, cells + 1)
    middle = 0.5 * (log_compute - np.median(flops.log_ratio) + centre[0] - centre[1])
    pays = larger_pays(np.repeat(log_compute, len(grid)), (middle[:, None] + grid).reshape(1, -1))
    pays = pays.reshape(len(pays), len(middle), len(grid))
    pays[..., 0], pays[..., -1] = True, False
    distance = np.where(pays[..., :-1] & ~pays[..., 1:], np.abs(grid[:-1] + grid[1:]), np.inf)
    low = middle + grid[np.argmin(distance, axis=-1)]
    high = low + (grid[1] - grid[0])
    for _ in range(bisections):
        between = 0.5 * (low + high)
        pays = larger_pays(log_compute, between)
        low, high = np.where(pays, between, low), np.where(pays, high, between)
    return np.asarray(0.5 * (low + high))
