"""Priors on how far the law may bend, each weighted by its evidence on the runs.

A prior of one fixed width cannot be right both for runs that follow Chinchilla to a tenth of a percent and for
runs that bend. Every combination of the widths below is fitted, and its share in the answer is its evidence, the
probability that it gave to these runs (Laplace's approximation; MacKay 1992, Neural Computation 4:415). The narrow
width of the walk is no narrower than published sweeps bend, since a bend too gentle to see inside a sweep is what
makes an answer far outside it sure and wrong.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from flops_fit.fitting.methods.extended.form import LN_ALPHA, LN_BETA, LN_E, LN_K, NUM_PLAIN, H, U, V
from flops_fit.fitting.options import FitOptions
from flops_fit.records import FloatArray

LN_EXPONENT = math.log(0.35)
DRIFT = ((0.06, 1 / 2), (0.25, 1 / 2))
"""Tau, the sd of the log exponents, and its prior probability. On 25 published sweeps 18 put over 90% of the evidence
on .12 or more of .03 .06 .12 .25 .5, and none decides for .03 (research/honesty-walk.md section 1)."""
INTERACTION = ((0.02, 1 / 2), (0.3, 1 / 2))
"""Sd of ln k, and its prior probability."""
SHORT_RUN = ((0.0005, 1 / 2), (0.06, 1 / 2))
"""Sd of h."""


class Priors(NamedTuple):
    """One row for each combination of widths."""

    mean: FloatArray
    """Shape (p,)."""
    precision: FloatArray
    """Shape (G, p, p)."""
    tau: FloatArray
    log_probability: FloatArray


def shape_priors(options: FitOptions, num_parameters: int) -> Priors:
    """Priors of every combination; E, u and v have none, the walks' coefficients are standard normal."""
    mean = np.zeros(num_parameters)
    mean[[LN_ALPHA, LN_BETA]] = LN_EXPONENT
    asked = (options.exponent_drift_sd, options.interaction_prior_sd, options.short_run_prior_sd)
    widths = [
        learned if sd is None else ((sd, 1.0),)
        for sd, learned in zip(asked, (DRIFT, INTERACTION, SHORT_RUN), strict=True)
    ]
    grid = list(itertools.product(*widths))
    precision = np.zeros((len(grid), num_parameters, num_parameters))
    walks = range(NUM_PLAIN, num_parameters)
    precision[:, walks, walks] = 1.0
    precision[:, LN_ALPHA, LN_ALPHA] = precision[:, LN_BETA, LN_BETA] = options.exponent_prior_sd**-2
    for row, (_, (interaction, _), (short_run, _)) in zip(precision, grid, strict=True):
        row[LN_K, LN_K], row[H, H] = interaction**-2, short_run**-2
    if options.slope_prior_sd is not None:
        both = np.ix_(range(len(grid)), [LN_ALPHA, LN_BETA], [LN_ALPHA, LN_BETA])
        precision[both] += options.slope_prior_sd**-2 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    log_probability = [sum(math.log(probability) for _, probability in row) for row in grid]
    return Priors(mean, precision, np.array([drift for (drift, _), _, _ in grid]), np.array(log_probability))


def log_evidence(
    misfit: FloatArray, count: float, sigma: FloatArray, offset: FloatArray, information: FloatArray, prior: FloatArray
) -> FloatArray:
    """Log probability of the runs under each prior, up to a constant that all share, shape (R,).

    From the weighted sum of squared residuals (R,), the number of runs, the sd of log loss (R,), the posterior mode
    minus the prior mean (R, p), J' W J and the prior's precisions, each (R, p, p).
    """
    stated = np.delete(np.delete(prior, [LN_E, U, V], axis=1), [LN_E, U, V], axis=2)
    volume = np.linalg.slogdet(stated)[1]
    posterior = np.linalg.slogdet(information / sigma[:, None, None] ** 2 + prior)[1]
    distance = np.einsum("ri,rij,rj->r", offset, prior, offset)
    return np.asarray(-count * np.log(sigma) - 0.5 * (misfit / sigma**2 + distance - volume + posterior))
