"""Outliers: runs far off the law whose neighbours are not."""

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.extended.law import MIN_RUNS, weigh_priors
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import robust_sd

MIN_DEVIATION = 0.02
"""A run closer to the law than this, in log loss, is no outlier however small the noise."""
NEIGHBOURS = 4


def find_outliers(log_runs: LogRuns, options: FitOptions) -> NDArray[np.bool_]:
    """Marks runs far off a robust fit of the extended law whose neighbours are not off with them.

    A corner of the grid where the law bends is off as a whole and stays; one bad run stands alone.
    """
    marked = np.zeros(len(log_runs), dtype=bool)
    if len(log_runs) < MIN_RUNS + 2 or np.ptp(log_runs.log_n) < 1e-3 or np.ptp(log_runs.log_d) < 1e-3:
        return marked
    weighed = weigh_priors(log_runs, options)
    x, y = (c - np.mean(c) for c in (log_runs.log_n, log_runs.log_d))
    expected = weighed.average(weighed.log_loss(log_runs.log_n, log_runs.log_d)[0])
    residual = (log_runs.log_loss - expected) / log_runs.relative_sd
    limit = max(options.outlier_threshold * robust_sd(residual), MIN_DEVIATION)
    spread_n, spread_d = max(float(np.std(x)), 1e-9), max(float(np.std(y)), 1e-9)
    for i in np.flatnonzero(np.abs(residual) > limit):
        distance = ((x - x[i]) / spread_n) ** 2 + ((y - y[i]) / spread_d) ** 2
        distance[i] = np.inf
        near = np.argsort(distance, kind="stable")[:NEIGHBOURS]
        marked[i] = abs(float(np.median(residual[near]))) < 0.5 * abs(residual[i])
    return marked
