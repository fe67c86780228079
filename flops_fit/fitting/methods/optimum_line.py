"""The line through optima: ln N_opt is linear in ln C, with an envelope L(C) = E + k C^-g for the loss.

Approach 1 draws it through the corners of the hull, approach 2 through the minima of the IsoFLOP curves.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.uncertainty.spread import Spread, interval_of, spread_of_replicates
from flops_fit.records import FloatArray

PARABOLA_ERROR = 0.11
"""Sd of ln N_opt that a parabola's own form adds to noise. With it 90% of the 114 minima on ten RefinedWeb sweeps of
Porian et al. hold the N_opt that they publish (porian_rw_optima.csv); by noise alone 48% do. The rms error is .13."""
EXPONENTS = np.geomspace(0.01, 0.8, 90)
"""Chinchilla-like surfaces give g = alpha beta / (alpha + beta), about 0.15; the grid spans well past it."""


class Envelope(NamedTuple):
    """E + exp(log_k - g (ln C - centre)), one row for each resample, arrays of shape (R,)."""

    irreducible: FloatArray
    log_k: FloatArray
    exponent: FloatArray
    centre: float

    def log_loss(self, log_compute: FloatArray) -> FloatArray:
        """Log: ln L at ln C of shape (m,), shape (R, m)."""
        fall = self.log_k[:, None] - self.exponent[:, None] * (log_compute - self.centre)
        return np.asarray(np.log(self.irreducible[:, None] + np.exp(fall)))


@dataclass(frozen=True, kw_only=True, eq=False)
class LineMethod:
    """A fitted line through minima; row 0 of the replicate arrays is the point fit."""

    law: LawFit
    slope: FloatArray
    """a, shape (1 + R,)."""
    level_at_centre: FloatArray
    centre: float
    envelope: Envelope

    def optimum(self, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """Log: ln N_opt and ln loss there, at ln C of shape (m,)."""
        log_n = self.level_at_centre[:, None] + self.slope[:, None] * (log_compute - self.centre)
        log_loss = self.envelope.log_loss(log_compute)
        return spread_of_replicates(log_n, level), spread_of_replicates(log_loss, level)

    def log_loss_at(self, log_n: FloatArray, log_d: FloatArray, level: float) -> Spread | None:
        """None: a line through minima has no loss off the optimum."""
        return None


def draw_line(
    name: str, log_runs: LogRuns, log_c: FloatArray, log_n: FloatArray, loss: FloatArray, level: float, used: str
) -> LineMethod:
    """Fits ln N_opt = line and L = envelope to the point fit (row 0) and every replicate.

    At ln C of shape (m,), at least three, ln N and the loss have shape (1 + R, m); ``used`` states for people which
    budgets entered.
    """
    weight = 1 / (log_n[1:].var(axis=0) + PARABOLA_ERROR**2)
    weight = weight / weight.sum()
    centre = float(weight @ log_c)
    x = log_c - centre
    slope = (log_n * weight) @ x / float((weight * x) @ x)
    middle = log_n @ weight
    # log_c_middle, not the weighted centre: exponents are stated at one place for every method.
    log_n_middle = middle + slope * (log_runs.log_c_middle - centre)
    law = LawFit(
        name=name,
        outcome="converged",
        reason=f"line through the minima of {used}",
        parameters={"log_n_at_centre": interval_of(middle, level)},
        a=interval_of(slope, level),
        b=interval_of(1 - slope * log_runs.flops.slope(log_n_middle), level),
        num_runs=len(log_runs),
    )
    envelope = fit_envelope(log_c, loss)
    return LineMethod(law=law, slope=slope, level_at_centre=middle, centre=centre, envelope=envelope)


def fit_envelope(log_compute: FloatArray, loss: FloatArray) -> Envelope:
    """Fits every row of losses by variable projection over the exponent: E >= 0 and k > 0 are linear.

    Losses have shape (R, m) at ln C of shape (m,), m >= 2. With fewer than four budgets E cannot be separated from the
    exponent, so E = 0 (a straight line in logs).
    """
    centre = float(log_compute.mean())
    if len(log_compute) < 4:
        x, y = log_compute - centre, np.log(loss)
        return Envelope(np.zeros(len(loss)), y.mean(1), np.maximum(-(y @ x) / (x @ x), 1e-3), centre)
    basis = np.exp(-EXPONENTS[:, None] * (log_compute - centre))
    centred = basis - basis.mean(1, keepdims=True)
    deviation = loss - loss.mean(1, keepdims=True)
    amplitude = (deviation @ centred.T) / (centred**2).sum(1)
    amplitude = np.maximum(amplitude, 1e-9 * loss.mean())
    irreducible = loss.mean(1, keepdims=True) - amplitude * basis.mean(1)
    through_zero = (loss @ basis.T) / (basis**2).sum(1)
    amplitude = np.where(irreducible > 0, amplitude, through_zero)
    irreducible = np.maximum(irreducible, 0.0)
    sse = [((loss - irreducible[:, [j]] - amplitude[:, [j]] * basis[j]) ** 2).sum(1) for j in range(len(basis))]
    rows, best = np.arange(len(loss)), np.argmin(sse, axis=0)
    return Envelope(irreducible[rows, best], np.log(amplitude[rows, best]), EXPONENTS[best], centre)
