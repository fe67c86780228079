"""The walk of a local exponent: a mean-reverting random function of ln N or ln D.

The log of the exponent departs from its average by a stationary Gaussian process of standard deviation tau whose
correlation fades over `LENGTH` e-folds, so it bends where runs show it and returns to its average beyond them, with an
uncertainty that grows as far as published sweeps bend: an Ornstein-Uhlenbeck process (Rasmussen & Williams 2006,
appendix B.2), piecewise linear on knots one e-fold apart. A smoother one (Matern 3/2) covers broken power laws less
often and errs more at published sizes far out (CONTRIBUTING.md, decisions).

Knots inside the runs come first: with a triangular root, the coefficients of those outside keep their prior whatever
the runs say, so a fit leaves them out and a prediction adds them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flops_fit.records import FloatArray

LENGTH = 5.0
"""E-folds of N or D over which an exponent forgets its departure; 2.2 decades, about 4.3 of C."""
OUTSIDE = 12
"""Knots on either side of the runs; beyond them the exponent stays what it is there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """Knots and the root of their correlation."""

    knots: FloatArray
    """Ascending, one apart, shape (m,)."""
    root: FloatArray
    """Departures of unit tau at the knots are ``root @ z`` with z ~ N(0, 1), shape (m, p)."""

    def at(self, x: FloatArray) -> FloatArray:
        """Hat functions at x of any shape (...): weights of the knots, (..., m)."""
        return np.asarray(np.maximum(1 - np.abs(self._clipped(x)[..., None] - self.knots), 0.0))

    def integral(self, x: FloatArray) -> FloatArray:
        """Integrals of the hat functions from 0 to x, (..., m)."""
        return self._from_start(np.asarray(x, dtype=np.float64)) - self._from_start(np.zeros(1))

    def _clipped(self, x: FloatArray) -> FloatArray:
        return np.clip(np.asarray(x, dtype=np.float64), self.knots[0], self.knots[-1])

    def _from_start(self, x: FloatArray) -> FloatArray:
        """Integrals from the first knot; the outermost hats go on as constants."""
        inside = self._clipped(x)[..., None] - self.knots
        total = np.where(inside <= 0, 0.5 * np.clip(1 + inside, 0, 1) ** 2, 1 - 0.5 * np.clip(1 - inside, 0, 1) ** 2)
        total[..., 0] += np.minimum(x - self.knots[0], 0.0) - 0.5
        total[..., -1] += np.maximum(x - self.knots[-1], 0.0)
        return np.asarray(total)


def make_walk(x: FloatArray, *, outside: int = 0) -> Walk:
    """Knots over the range of x, and ``outside`` more on either side, whose coefficients come last."""
    first, last = np.floor(x.min()), np.ceil(x.max())
    knots = np.arange(first - outside, last + outside + 1)
    inner = np.arange(first, max(last, first + 1) + 1)
    knots = np.union1d(knots, inner)
    order = np.concatenate([inner, np.setdiff1d(knots, inner)])
    root = np.linalg.cholesky(np.exp(-np.abs(order[:, None] - order) / LENGTH))
    position: NDArray[np.int64] = np.argsort(order)
    return Walk(knots=knots, root=root[position])
