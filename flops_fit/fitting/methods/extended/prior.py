"""Priors on how far the law may bend, each weighted by its evidence on the runs.

A prior of one fixed width cannot be right both for runs that follow Chinchilla to a tenth of a percent and for
runs that bend. Every combination of the widths below is fitted, and its share in the answer is its evidence, the
probability that it gave to these runs (Laplace's approximation; MacKay 1992, Neural Computation 4:415), times its
prior probability: each way to depart from Chinchilla is as likely as not. Where the runs follow Chinchilla the
narrow widths win and the interval is short; where they bend, the wide ones.
"""

import itertools
import math

import numpy as np

from flops_fit.fitting.methods.extended.form import C1, C2, H1, H2, LN_ALPHA, LN_BETA, LN_K, NUM_PARAMETERS
from flops_fit.fitting.options import FitOptions
from flops_fit.records import FloatArray

LN_EXPONENT = math.log(0.35)
INTERACTION = ((0.02, 1 / 2), (0.3, 1 / 2))
"""Sd of ln k, and its prior probability."""
CURVATURE = ((0.001, 1 / 2), (0.006, 1 / 4), (0.03, 1 / 4))
"""Sd of c1 and c2."""
SHORT_RUN = ((0.0005, 1 / 2), (0.06, 1 / 2))
"""Sd of h1 and h2."""


def shape_priors(options: FitOptions) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean (10,), precisions (G, 10, 10) and log probabilities (G,) of the priors; E, u and v have none."""
    mean = np.zeros(NUM_PARAMETERS)
    mean[[LN_ALPHA, LN_BETA]] = LN_EXPONENT
    asked = (options.interaction_prior_sd, options.curvature_prior_sd, options.short_run_prior_sd)
    widths = [
        learned if sd is None else ((sd, 1.0),)
        for sd, learned in zip(asked, (INTERACTION, CURVATURE, SHORT_RUN), strict=True)
    ]
    grid = list(itertools.product(*widths))
    precision = np.zeros((len(grid), NUM_PARAMETERS, NUM_PARAMETERS))
    precision[:, LN_ALPHA, LN_ALPHA] = precision[:, LN_BETA, LN_BETA] = options.exponent_prior_sd**-2
    for row, ((interaction, _), (curvature, _), (short_run, _)) in zip(precision, grid, strict=True):
        row[LN_K, LN_K] = interaction**-2
        row[C1, C1] = row[C2, C2] = curvature**-2
        row[H1, H1] = row[H2, H2] = short_run**-2
    if options.slope_prior_sd is not None:
        both = np.ix_(range(len(grid)), [LN_ALPHA, LN_BETA], [LN_ALPHA, LN_BETA])
        precision[both] += options.slope_prior_sd**-2 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    return mean, precision, np.array([sum(math.log(probability) for _, probability in row) for row in grid])


def log_evidence(
    misfit: FloatArray,
    count: FloatArray,
    sigma: FloatArray,
    offset: FloatArray,
    information: FloatArray,
    prior: FloatArray,
) -> FloatArray:
    """Log probability of the runs under each prior, up to a constant that all share, shape (R,).

    Args:
        misfit: Weighted sum of squared residuals, shape (R,).
        count: Number of runs, shape (R,).
        sigma: Sd of log loss, shape (R,).
        offset: Posterior mode minus prior mean, shape (R, 10).
        information: J' W J, shape (R, 10, 10).
        prior: Precisions, shape (R, 10, 10).
    """
    stated = np.einsum("rii->ri", prior)
    volume = np.log(np.where(stated > 0, stated, 1.0)).sum(1)
    posterior = np.linalg.slogdet(information / sigma[:, None, None] ** 2 + prior)[1]
    distance = np.einsum("ri,rij,rj->r", offset, prior, offset)
    return np.asarray(-count * np.log(sigma) - 0.5 * (misfit / sigma**2 + distance - volume + posterior))
