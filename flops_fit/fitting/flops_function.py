"""FLOPs per token as a function of N, on the user's own count.

6N is a convention. Where runs were counted (C and D are both recorded), C/D is a measured function of N, and
the optimum is solved on it. Between measured sizes it is interpolated in logs. Beyond them the ratio
C/(6ND) goes on with the slope of the last sizes, fading over one e-fold of N, so that far out cost grows in
proportion to N; a finding reports how far that reaches.
"""

from dataclasses import dataclass

import numpy as np

from flops_fit.records import FloatArray

# Ratios C/(ND) closer together than this are one constant: rounding of counted tokens, not attention.
CONSTANT_WITHIN = 0.01
MAX_KNOTS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class FlopsFunction:
    """ln(FLOPs per token) as a function of ln N: piecewise linear, given at knots."""

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
        log_n = np.asarray(log_n, dtype=np.float64)
        if self.is_constant:
            return np.asarray(log_n + self.log_ratio[0])
        inside = np.interp(log_n, self.log_n, self.log_ratio)
        above = np.maximum(log_n - self.log_n[-1], 0.0)
        below = np.maximum(self.log_n[0] - log_n, 0.0)
        low, high = self._end_slopes()
        return np.asarray(log_n + inside - high * np.expm1(-above) + low * np.expm1(-below))

    def slope(self, log_n: FloatArray) -> FloatArray:
        """Returns d ln(C/D) / d ln N, any shape; 1 for a constant ratio."""
        step = 1e-4
        if self.is_constant:
            return np.ones_like(np.asarray(log_n, dtype=np.float64))
        up, down = self.log_flops_per_token(log_n + step), self.log_flops_per_token(log_n - step)
        return np.asarray(np.maximum((up - down) / (2 * step), 0.05))

    def log_tokens(self, log_compute: FloatArray, log_n: FloatArray) -> FloatArray:
        """Returns ln D that spends C at N."""
        return np.asarray(log_compute - self.log_flops_per_token(log_n))

    def _end_slopes(self) -> tuple[float, float]:
        """Slopes of ln(C/(ND)) over the outer third of the knots; clipped, so that cost still grows with N."""
        third = max(2, len(self.log_n) // 3)
        low = _line_slope(self.log_n[:third], self.log_ratio[:third])
        high = _line_slope(self.log_n[-third:], self.log_ratio[-third:])
        return float(np.clip(low, -0.6, 0.6)), float(np.clip(high, -0.6, 0.6))


def constant_flops(flops_per_param_per_token: float = 6.0) -> FlopsFunction:
    """Returns C = k N D with one k."""
    return FlopsFunction(log_n=np.zeros(1), log_ratio=np.log([flops_per_param_per_token]))


def measure_flops_function(compute: FloatArray, num_params: FloatArray, num_tokens: FloatArray) -> FlopsFunction:
    """Reads k(N) = C/(ND) off the runs: a constant where they agree within 1 %, else one knot per size.

    Args:
        compute: C spent, FLOPs, shape (n,).
        num_params: N, shape (n,).
        num_tokens: D, shape (n,).
    """
    log_n = np.log(num_params)
    log_ratio = np.log(compute) - log_n - np.log(num_tokens)
    if np.ptp(log_ratio) < CONSTANT_WITHIN:
        return FlopsFunction(log_n=np.zeros(1), log_ratio=np.array([np.median(log_ratio)]))
    # Sizes closer than the resolution of the knots share one, so that 10^6 rows stay cheap.
    resolution = max(np.ptp(log_n) / MAX_KNOTS, 1e-3)
    cell = np.round((log_n - log_n.min()) / resolution).astype(np.int64)
    _, index, count = np.unique(cell, return_inverse=True, return_counts=True)
    if len(count) == 1:
        return FlopsFunction(log_n=np.zeros(1), log_ratio=np.array([np.median(log_ratio)]))
    return FlopsFunction(
        log_n=np.bincount(index, log_n) / count,
        log_ratio=np.bincount(index, log_ratio) / count,
    )


def _line_slope(x: FloatArray, y: FloatArray) -> float:
    centred = x - x.mean()
    return float(centred @ (y - y.mean()) / max(float(centred @ centred), 1e-12))
