"""Disagreement: how far apart the methods are, beyond what their own intervals explain.

A share of the recommended law's form uncertainty: each other method counts by how surprising its answer is, its
own backtest errors included, so that a method that failed on held-out budgets hardly counts here.
"""

import numpy as np

from flops_fit.fitting.uncertainty.resampling import normal_quantile
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.records import FloatArray

NOISE, SURPRISE = 2.0, 6.0
"""Squared differences in summed variances: below the first they are what noise gives, above the second they count in
full, and between the two in proportion, so that the interval does not jump with C."""


def disagreement(own: Spread, others: list[Spread], level: float) -> FloatArray:
    """Half-width that the spread between methods adds, shape of the values; zero where they agree.

    The mean over methods of the squared difference in excess of both intervals.
    """
    if not others:
        return np.zeros_like(own.value)
    quantile = normal_quantile(level)
    excess = np.zeros_like(own.value)
    for other in others:
        variance = ((own.high - own.low) ** 2 + (other.high - other.low) ** 2) / (2 * quantile) ** 2
        squared = (own.value - other.value) ** 2
        ratio = squared / np.maximum(variance, np.finfo(np.float64).tiny)
        excess += np.maximum(squared - variance, 0.0) * np.clip((ratio - NOISE) / (SURPRISE - NOISE), 0.0, 1.0)
    return np.asarray(quantile * np.sqrt(excess / len(others)))
