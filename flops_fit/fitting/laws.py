"""A law as a value: its loss at (N, D) and its optimum at C."""

from dataclasses import dataclass, field

import numpy as np

from flops_fit.fitting.flops_function import FlopsFunction, constant_flops
from flops_fit.fitting.methods.optimum import parametric_optimum
from flops_fit.records import FloatArray


@dataclass(frozen=True, kw_only=True)
class ChinchillaLaw:
    """L(N, D) = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, arXiv:2203.15556, eq. 2), natural units."""

    E: float
    """Irreducible loss, nats per token."""
    A: float
    B: float
    alpha: float
    beta: float
    flops: FlopsFunction = field(default_factory=constant_flops)
    """C = 6 N D, or the user's own count."""

    def loss(self, num_params: FloatArray | float, num_tokens: FloatArray | float) -> FloatArray:
        """Loss at N, D of any shapes that broadcast."""
        n, d = np.asarray(num_params, dtype=np.float64), np.asarray(num_tokens, dtype=np.float64)
        return np.asarray(self.E + self.A * n**-self.alpha + self.B * d**-self.beta)

    def n_opt(self, compute: FloatArray | float) -> FloatArray:
        """N that minimises the loss on C FLOPs; shape of ``compute``."""
        log_c = np.log(np.asarray(compute, dtype=np.float64))
        theta = np.array([[np.log(self.E), np.log(self.A), np.log(self.B), self.alpha, self.beta]])
        log_n, _ = parametric_optimum(theta, (0.0, 0.0), self.flops, log_c.reshape(-1))
        return np.asarray(np.exp(log_n[0]).reshape(log_c.shape))

    def d_opt(self, compute: FloatArray | float) -> FloatArray:
        """D that `n_opt` leaves on C FLOPs."""
        log_c = np.log(np.asarray(compute, dtype=np.float64))
        return np.asarray(np.exp(self.flops.log_tokens(log_c, np.log(self.n_opt(compute)))))

    def loss_opt(self, compute: FloatArray | float) -> FloatArray:
        """Loss at the optimum."""
        return self.loss(self.n_opt(compute), self.d_opt(compute))
