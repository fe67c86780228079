"""The line through optima: ln N_opt is linear in ln C, with an envelope L(C) = E + k C^-g for the loss.

Approach 1 draws it through the corners of the hull, approach 2 through the minima of the IsoFLOP curves.
"""

from dataclasses import dataclass

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.envelope import Envelope, fit_envelope
from flops_fit.fitting.methods.isoflop_curve import PARABOLA_ERROR
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.uncertainty.spread import Spread, interval_of, spread_of_replicates
from flops_fit.records import FloatArray


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

    Args:
        name: Of the law.
        log_runs: The runs, for the FLOPs function and the count.
        log_c: ln C of the minima, shape (m,), at least three.
        log_n: ln N there, shape (1 + R, m).
        loss: Loss there, shape (1 + R, m).
        level: Of the intervals.
        used: Which budgets entered, for people.
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
