"""The loss envelope L(C) = E + k C^-g through the minima of the IsoFLOP curves."""

from typing import NamedTuple

import numpy as np

from flops_fit.records import FloatArray

# Chinchilla-like surfaces give g = alpha beta / (alpha + beta), about 0.15; the grid spans well past it.
EXPONENTS = np.geomspace(0.01, 0.8, 90)


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


def fit_envelope(log_compute: FloatArray, loss: FloatArray) -> Envelope:
    """Fits every row of losses by variable projection over the exponent: E >= 0 and k > 0 are linear.

    With fewer than four budgets E cannot be separated from the exponent, so E = 0 (a straight line in logs).

    Args:
        log_compute: ln C of the minima, shape (m,), m >= 2.
        loss: Loss there, shape (R, m).
    """
    centre = float(log_compute.mean())
    if len(log_compute) < 4:
        slope, level = _straight_line(log_compute - centre, np.log(loss))
        return Envelope(np.zeros(len(loss)), level, np.maximum(-slope, 1e-3), centre)
    basis = np.exp(-EXPONENTS[:, None] * (log_compute - centre))
    centred = basis - basis.mean(1, keepdims=True)
    deviation = loss - loss.mean(1, keepdims=True)
    amplitude = (deviation @ centred.T) / (centred**2).sum(1)
    amplitude = np.maximum(amplitude, 1e-9 * loss.mean())
    irreducible = loss.mean(1, keepdims=True) - amplitude * basis.mean(1)
    through_zero = (loss @ basis.T) / (basis**2).sum(1)
    amplitude = np.where(irreducible > 0, amplitude, through_zero)
    irreducible = np.maximum(irreducible, 0.0)
    sse = np.stack(
        [((loss - irreducible[:, [j]] - amplitude[:, [j]] * basis[j]) ** 2).sum(1) for j in range(len(basis))],
        axis=1,
    )
    rows = np.arange(len(loss))
    best = np.argmin(sse, axis=1)
    return Envelope(irreducible[rows, best], np.log(amplitude[rows, best]), EXPONENTS[best], centre)


def _straight_line(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    return (y @ x) / (x @ x), y.mean(1)
