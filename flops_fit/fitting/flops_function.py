"""FLOPs per token as a smooth function of N, on the user's own count.

6N is a convention. Where runs were counted (C and D are both recorded), C/D is a measured function of N, and
the optimum is solved on it: ln of C/(ND) is a polynomial of ln N of low order, drawn through a few knots. Beyond the
sizes the ratio goes on with the slope at the last one, fading over one e-fold of N, so that far out cost grows in
proportion to N; a finding reports how far that reaches.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flops_fit.records import FloatArray

CONSTANT_WITHIN = 0.01
"""Ratios C/(ND) closer together than this are one constant: rounding of counted tokens, not attention."""
SAME_SIZE = 1e-3
COUNT_ERROR = 1e-3
"""Least sd of ln C/(ND) at one size: a curve is not asked to follow counts any closer."""
MAX_DEGREE = 6
KNOTS = 33
LEAST_SLOPE = 0.05
"""Of ln(C/D) in ln N: cost grows with N."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FlopsFunction:
    """ln(FLOPs per token) as a function of ln N: cubic pieces with a continuous slope, given at knots."""

    log_n: FloatArray
    """Knots, ascending, shape (m,), m >= 1."""
    log_ratio: FloatArray
    """ln(C / (N D)) at the knots, shape (m,); ln 6 for the convention."""

    @property
    def is_constant(self) -> bool:
        """Whether C/(ND) is one number, so that the optimum has a closed form."""
        return len(self.log_n) == 1

    @property
    def is_six(self) -> bool:
        """Whether it is the convention C = 6ND."""
        return self.is_constant and abs(float(self.log_ratio[0]) - np.log(6.0)) < CONSTANT_WITHIN

    def log_flops_per_token(self, log_n: FloatArray) -> FloatArray:
        """Returns ln(C/D) at ln N, any shape."""
        return self._evaluate(log_n)[0]

    def slope(self, log_n: FloatArray) -> FloatArray:
        """Returns d ln(C/D) / d ln N, any shape; 1 for a constant ratio."""
        return self._evaluate(log_n)[1]

    def log_tokens(self, log_compute: FloatArray, log_n: FloatArray) -> FloatArray:
        """Returns ln D that spends C at N."""
        return np.asarray(log_compute - self.log_flops_per_token(log_n))

    @cached_property
    def _tangents(self) -> FloatArray:
        return np.asarray(np.gradient(self.log_ratio, self.log_n, edge_order=2 if len(self.log_n) > 2 else 1))

    def _evaluate(self, log_n: FloatArray) -> tuple[FloatArray, FloatArray]:
        """ln(C/D) and its slope."""
        log_n = np.asarray(log_n, dtype=np.float64)
        x, y = self.log_n, self.log_ratio
        if self.is_constant:
            return np.asarray(log_n + y[0]), np.ones_like(log_n)
        inside = np.clip(log_n, x[0], x[-1])
        i = np.clip(np.searchsorted(x, inside) - 1, 0, len(x) - 2)
        width = x[i + 1] - x[i]
        t = (inside - x[i]) / width
        rise = y[i + 1] - y[i]
        start, end = width * self._tangents[i], width * self._tangents[i + 1]
        bend, twist = 3 * rise - 2 * start - end, start + end - 2 * rise
        ratio = y[i] + t * (start + t * (bend + t * twist))
        slope = (start + t * (2 * bend + 3 * t * twist)) / width
        beyond = log_n - inside
        fading = np.exp(-np.abs(beyond))
        ratio = ratio + slope * np.sign(beyond) * (1 - fading)
        return np.asarray(log_n + ratio), np.asarray(np.maximum(1 + slope * fading, LEAST_SLOPE))


def constant_flops(flops_per_param_per_token: float = 6.0) -> FlopsFunction:
    """Returns C = k N D with one k."""
    return FlopsFunction(log_n=np.zeros(1), log_ratio=np.log([flops_per_param_per_token]))


def measure_flops_function(compute: FloatArray, num_params: FloatArray, num_tokens: FloatArray) -> FlopsFunction:
    """Reads k(N) = C/(ND) off the runs: a polynomial of ln N where it beats the scatter, else a constant.

    The degree is chosen by an information criterion on the means of the sizes. Their errors are the scatter within a
    size, or more where the sizes lie off every smooth curve, as digitised ones do. C is what was spent, in FLOPs; all
    three columns have shape (n,).
    """
    log_n = np.log(num_params)
    log_ratio = np.log(compute) - log_n - np.log(num_tokens)
    constant = FlopsFunction(log_n=np.zeros(1), log_ratio=np.array([np.median(log_ratio)]))
    _, index, count = np.unique(np.round(log_n / SAME_SIZE), return_inverse=True, return_counts=True)
    size, mean = (np.bincount(index, column) / count for column in (log_n, log_ratio))
    if np.ptp(log_ratio) < CONSTANT_WITHIN or len(size) == 1:
        return constant
    repeats = len(log_n) - len(size)
    scatter = float(((log_ratio - mean[index]) ** 2).sum()) / max(repeats, 1)
    error = np.sqrt(scatter / count + COUNT_ERROR**2)
    knots = np.linspace(size[0], size[-1], KNOTS)
    best, chosen = np.inf, constant
    repeated = 2 * repeats >= len(size)
    for degree in range(min(len(size) - (1 if repeated else 2), MAX_DEGREE) + 1):
        curve = np.polynomial.Polynomial.fit(size, mean, degree, w=1 / error)
        residual = (mean - curve(size)) / error
        if not repeated:
            # Only the other sizes can tell scatter from shape: each is predicted from them.
            offset, scale = curve.mapparms()
            basis, _ = np.linalg.qr(np.vander(offset + scale * size, degree + 1) / error[:, None])
            residual = residual / np.maximum(1 - (basis**2).sum(axis=1), 1e-9)
        misfit = float((residual**2).mean())
        # -2 ln likelihood with the errors scaled up to the misfit, and 2 ln n for each coefficient.
        score = len(size) * (misfit if misfit < 1 else 1 + np.log(misfit)) + 2 * degree * np.log(len(log_n))
        grows = bool(np.all(np.diff(knots + curve(knots)) > LEAST_SLOPE * np.diff(knots)))
        if grows and score < best:
            best, chosen = score, FlopsFunction(log_n=knots, log_ratio=curve(knots)) if degree else constant
    return chosen
