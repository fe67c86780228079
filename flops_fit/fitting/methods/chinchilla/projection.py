"""The global search over (alpha, beta), for every resample at once.

For fixed exponents E, A, B are linear (variable projection): weighted least squares with E, A, B >= 0 has a
closed form of ten weighted sums, and each sum over all resamples is one matrix product. The cells of the
grid that are lower than their eight neighbours are the starts of `fit.py`.

Source: Golub & Pereyra 1973 (variable projection); grid and objective are ours.
"""

from typing import NamedTuple

import numpy as np

from flops_fit.records import FloatArray

# Published exponents lie in .2 to .8; the grid reaches past both, log-spaced.
GRID = np.geomspace(0.04, 2.2, 26)


class Starts(NamedTuple):
    """Starting points, K for each of R resamples; a column that is not needed repeats the best one."""

    exponents: FloatArray
    """(alpha, beta), shape (R, K, 2)."""
    terms: FloatArray
    """(E, A, B) for centred logs, each > 0, shape (R, K, 3)."""


def search_exponents(x: FloatArray, y: FloatArray, loss: FloatArray, weights: FloatArray, keep: int) -> Starts:
    """Evaluates the whole grid and returns the best K = ``keep`` separate cells of each resample.

    Centred ln N, centred ln D and the loss in nats have shape (n,), the weights of the runs in each resample (R, n).
    """
    scaled = weights / (loss * loss)
    terms, sse = _non_negative_solution(_weighted_sums(x, y, loss, scaled))
    order = _best_cells(sse, keep)
    rows = np.arange(len(weights))[:, None]
    count = len(GRID)
    exponents = np.stack([GRID[order // count], GRID[order % count]], axis=-1)
    chosen = terms.reshape(3, len(weights), -1)[:, rows, order]
    floor = np.array([1e-3, 1e-4, 1e-4])[:, None, None] * float(loss.min())
    return Starts(exponents, np.moveaxis(np.maximum(chosen, floor), 0, -1))


def _weighted_sums(x: FloatArray, y: FloatArray, loss: FloatArray, w: FloatArray) -> tuple[FloatArray, ...]:
    """The ten sums of the normal equations, each broadcastable to (R, alpha, beta)."""
    # Exponents are clipped so that a far-off run cannot overflow at the steep end of the grid.
    p = np.exp(np.clip(-GRID[:, None] * x, -60, 60))
    q = np.exp(np.clip(-GRID[:, None] * y, -60, 60))
    cross = (p[:, None, :] * q[None, :, :]).reshape(-1, len(x))
    size = len(GRID)
    w_loss = w * loss
    one, lo, lo2 = (column[:, None, None] for column in (w.sum(1), w_loss.sum(1), (w_loss * loss).sum(1)))
    sp, spp, slp = ((left @ right.T)[:, :, None] for left, right in ((w, p), (w, p * p), (w_loss, p)))
    sq, sqq, slq = ((left @ right.T)[:, None, :] for left, right in ((w, q), (w, q * q), (w_loss, q)))
    return one, sp, sq, spp, (w @ cross.T).reshape(-1, size, size), sqq, lo, slp, slq, lo2


def _non_negative_solution(sums: tuple[FloatArray, ...]) -> tuple[FloatArray, FloatArray]:
    """(E, A, B) >= 0 of the weighted least squares in every cell, (3, R, alpha, beta), and its sum of squares.

    The unconstrained solution where it is non-negative, else the best of the faces E = 0, A = 0, B = 0.
    """
    s1, sp, sq, spp, spq, sqq, sl, slp, slq, sll = sums
    # E is eliminated first: centred sums are better conditioned than the 3 x 3 determinant.
    vpp, vqq = np.maximum(spp - sp * sp / s1, 1e-12 * spp), np.maximum(sqq - sq * sq / s1, 1e-12 * sqq)
    vpq = spq - sp * sq / s1
    vlp, vlq, vll = slp - sl * sp / s1, slq - sl * sq / s1, sll - sl * sl / s1
    det = np.maximum(vpp * vqq - vpq * vpq, 1e-10 * vpp * vqq) + 1e-300
    amp_a, amp_b = (vlp * vqq - vlq * vpq) / det, (vlq * vpp - vlp * vpq) / det
    level = (sl - amp_a * sp - amp_b * sq) / s1
    sse = vll - amp_a * vlp - amp_b * vlq
    inside = (amp_a >= 0) & (amp_b >= 0) & (level >= 0)

    det0 = np.maximum(spp * sqq - spq * spq, 1e-10 * spp * sqq) + 1e-300
    a0, b0 = (slp * sqq - slq * spq) / det0, (slq * spp - slp * spq) / det0
    sse0 = np.where((a0 >= 0) & (b0 >= 0), sll - a0 * slp - b0 * slq, np.inf)
    a1 = np.maximum(vlp / vpp, 0.0)
    e1 = (sl - a1 * sp) / s1
    sse1 = np.where(e1 >= 0, vll - a1 * vlp, np.inf)
    b2 = np.maximum(vlq / vqq, 0.0)
    e2 = (sl - b2 * sq) / s1
    sse2 = np.where(e2 >= 0, vll - b2 * vlq, np.inf)

    best = np.where(inside, sse, np.inf)
    terms = np.stack(np.broadcast_arrays(level, amp_a, amp_b))
    for face_sse, face in ((sse0, (0.0, a0, b0)), (sse1, (e1, a1, 0.0)), (sse2, (e2, 0.0, b2))):
        better = ~inside & (face_sse < best)
        best = np.where(better, face_sse, best)
        for i in range(3):
            terms[i] = np.where(better, face[i], terms[i])
    return terms, best


def _best_cells(sse: FloatArray, keep: int) -> FloatArray:
    """Flat indices of the ``keep`` lowest cells that are lower than their neighbours, shape (R, keep)."""
    padded = np.pad(sse, ((0, 0), (1, 1), (1, 1)), constant_values=np.inf)
    size = sse.shape[1]
    lowest = np.ones(sse.shape, dtype=bool)
    for i, j in np.ndindex(3, 3):
        lowest &= sse <= padded[:, i : i + size, j : j + size]
    flat = np.where(lowest, sse, np.inf).reshape(len(sse), -1)
    order = np.argpartition(flat, keep, axis=1)[:, :keep]
    score = np.take_along_axis(flat, order, axis=1)
    order = np.take_along_axis(order, np.argsort(score, axis=1), axis=1)
    valid = np.isfinite(np.take_along_axis(flat, order, axis=1))
    return np.where(valid, order, np.argmin(sse.reshape(len(sse), -1), axis=1)[:, None])
