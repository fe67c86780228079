"""Draws of a fitted law's answers: from the posterior of the extended law, or from the bootstrap of another."""

from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.methods.approach3 import ParametricMethod
from flops_fit.fitting.methods.extended.law import ExtendedMethod
from flops_fit.fitting.methods.optimum import parametric_optimum
from flops_fit.fitting.methods.optimum_line import LineMethod
from flops_fit.fitting.methods.result import FittedMethod
from flops_fit.records import FloatArray

DRAWN = (ExtendedMethod, ParametricMethod, LineMethod)
"""Fitted methods that can be drawn from."""
HALF_STEP = 0.5
"""An exponent is the slope of ln N_opt over one e-fold of C."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One number and draws of it; model-form error learned from backtests is not included."""

    value: float
    draws: FloatArray
    """Shape (count,)."""
    statistical_sd: float
    """With the law's shape held."""
    form_sd: float
    """What freeing the shape adds."""


def draw_answers(
    method: FittedMethod, log_c: float, middle: float, count: int, rng: np.random.Generator
) -> tuple[Drawn, Drawn]:
    """Draws ln loss at the optimum at ``log_c``, and the exponent a at ``middle``.

    Args:
        method: One of `DRAWN`.
        log_c: Log: ln C of the loss.
        middle: Log: ln C around which the slope of ln N_opt is taken.
        count: How many draws.
        rng: Source of randomness.
    """
    at = np.array([log_c, middle - HALF_STEP, middle + HALF_STEP])
    if isinstance(method, ExtendedMethod):
        return _of_posterior(method, at, count, rng)
    assert isinstance(method, ParametricMethod | LineMethod)
    if isinstance(method, ParametricMethod):
        log_n, log_loss = parametric_optimum(method.theta, method.centre, method.log_runs.flops, at)
        loss, exponent = log_loss[:, 0], log_n[:, 2] - log_n[:, 1]
    else:
        loss, exponent = method.envelope.log_loss(at)[:, 0], method.slope
    return _of_replicates(loss, count, rng), _of_replicates(exponent, count, rng)


def _of_posterior(method: ExtendedMethod, at: FloatArray, count: int, rng: np.random.Generator) -> tuple[Drawn, Drawn]:
    weighed, flops = method.weighed, method.log_runs.flops
    log_n = weighed.optimum(flops, at)
    sensitivity = weighed.sensitivity(flops, at, log_n)
    loss, loss_gradient = weighed.log_loss(log_n[:, :1], flops.log_tokens(at[:1], log_n[:, :1]))
    rise, rise_gradient = log_n[:, 2:] - log_n[:, 1:2], sensitivity[:, 2:] - sensitivity[:, 1:2]

    def draw(value: FloatArray, gradient: FloatArray) -> Drawn:
        variance = np.einsum("rmi,rij,rmj->r", gradient, weighed.fits.covariance, gradient, optimize=True)
        prior = rng.choice(len(weighed.share), size=count, p=weighed.share / weighed.share.sum())
        sd = np.sqrt(np.maximum(variance, 0.0))[prior]
        # Student's t, at least three degrees of freedom, as in the law's own intervals.
        noise = rng.standard_t(np.maximum(weighed.fits.dof, 3.0)[prior])
        total, held = (float(sds[0]) for sds in weighed.standard_errors(value, gradient))
        return Drawn(
            value=float(weighed.average(value)[0]),
            draws=value[prior, 0] + sd * noise,
            statistical_sd=held,
            form_sd=float(np.sqrt(max(total**2 - held**2, 0.0))),
        )

    return draw(loss, loss_gradient), draw(rise, rise_gradient)


def _of_replicates(rows: FloatArray, count: int, rng: np.random.Generator) -> Drawn:
    """Of row 0, the fit, and its resamples."""
    return Drawn(
        value=float(rows[0]),
        draws=rows[1:][rng.integers(len(rows) - 1, size=count)],
        statistical_sd=float(rows[1:].std()),
        form_sd=0.0,
    )
