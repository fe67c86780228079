"""The posterior of the extended law: what a planner asks many times, without backtests and without a bootstrap."""

from dataclasses import dataclass

import numpy as np

from flops_fit.errors import FitError
from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.extended.law import Weighed, weigh_nearby
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.options import FitOptions
from flops_fit.records import FloatArray

STEP = 0.1
"""Of ln N and ln C in differences; the loss along a budget is smooth over an e-fold."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """The law's own uncertainty, its model-form error not included; logs throughout."""

    weighed: Weighed
    log_runs: LogRuns
    """The runs that entered."""

    def n_opt(self, log_c: float) -> tuple[float, float, float]:
        """Mean and sd of ln N_opt at ln C, and the degrees of freedom of Student's t."""
        variance = float(self.joint(log_c, np.empty((0, 2)))[0, 0])
        value = self.weighed.average(self._optimum(log_c))
        return float(value[0]), float(np.sqrt(variance)), float(self.weighed.average(self.weighed.fits.dof))

    def joint(self, log_c: float, cells: FloatArray) -> FloatArray:
        """Covariance of ln N_opt at ln C and ln loss at each cell, the spread between priors included.

        Args:
            log_c: ln of the target budget.
            cells: (ln N, ln D) of runs that might be trained, shape (m, 2).

        Returns:
            Shape (1 + m, 1 + m).
        """
        log_n = self._optimum(log_c)
        sensitivity = self.weighed.sensitivity(self.log_runs.flops, np.array([log_c]), log_n)
        loss, gradient = self.weighed.log_loss(cells[:, 0], cells[:, 1])
        return self.weighed.covariance(
            np.concatenate([log_n, loss], axis=1), np.concatenate([sensitivity, gradient], axis=1)
        )

    def forecast(self, log_c: float, cells: FloatArray, noise: float) -> float:
        """Sd of ln N_opt at ln C once the cells have been trained; ``noise`` is the sd of log loss of one run."""
        joint = self.joint(log_c, cells)
        gain = np.linalg.solve(joint[1:, 1:] + noise**2 * np.eye(len(cells)), joint[1:, 0])
        return float(np.sqrt(max(joint[0, 0] - joint[0, 1:] @ gain, 0.0)))

    def waste_per_square(self, log_c: float) -> float:
        """Share of C wasted per squared error of ln N at ln C: half the loss's curvature over its fall with ln C."""
        log_n = float(self.weighed.average(self._optimum(log_c))[0])
        flops = self.log_runs.flops

        def log_loss(at: float, sizes: FloatArray) -> FloatArray:
            return self.weighed.average(self.weighed.log_loss(sizes, flops.log_tokens(np.asarray(at), sizes))[0])

        below, middle, above = log_loss(log_c, log_n + STEP * np.array([-1.0, 0.0, 1.0]))
        smaller, larger = (
            log_loss(log_c + s * STEP, self.weighed.average(self._optimum(log_c + s * STEP)))[0] for s in (-1, 1)
        )
        curvature, fall = (below - 2 * middle + above) / STEP**2, (smaller - larger) / (2 * STEP)
        return float(0.5 * curvature / fall)

    def _optimum(self, log_c: float) -> FloatArray:
        return self.weighed.optimum(self.log_runs.flops, np.array([log_c]))


def fit_posterior(log_runs: LogRuns, options: FitOptions) -> Posterior:
    """Fits the extended law alone.

    Raises:
        FitError: If these runs are too few, or N or D is the same in all.
    """
    found = weigh_nearby(log_runs, options)
    if isinstance(found, LawFit):
        raise FitError(f"the extended law was not fitted to these runs: {found.reason} Train more sizes and budgets.")
    return Posterior(weighed=found[0], log_runs=found[1])
