"""Resampling: bootstrap weights, residual noise, and quantiles.

Runs are resampled within their budget (strata), since a sweep fixes how many runs each budget has. Where
runs share a trunk their errors are correlated, and whole groups are drawn instead: treating five cooldowns of
one trunk as independent gave 73% coverage for a nominal 90% (research/science.md, conclusion 10).
"""

from statistics import NormalDist

import numpy as np

from flops_fit.fitting.inputs.log_runs import IntArray, LogRuns
from flops_fit.records import FloatArray

MIN_STRATUM = 4


def resample_weights(log_runs: LogRuns, count: int, rng: np.random.Generator) -> FloatArray:
    """Draws bootstrap multiplicities: by budget (small ones merged), or by group where runs share groups.

    Returns:
        Weights of shape (count, n) whose rows sum to the number of runs, or nearly.
    """
    if log_runs.is_clustered:
        # Smooth weights: with seven trunks a multinomial draw would often lose all but three of them.
        draws = rng.exponential(size=(count, int(log_runs.group.max()) + 1))
        weights = draws[:, log_runs.group] * log_runs.weight
        return np.asarray(weights * (log_runs.weight.sum() / weights.sum(1, keepdims=True)))
    weights = np.zeros((count, len(log_runs)))
    for rows in _strata(log_runs):
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=count)
    return np.asarray(weights * log_runs.weight)


def _strata(log_runs: LogRuns) -> list[IntArray]:
    """Rows of each budget, small neighbouring budgets together: a stratum of one run would never vary."""
    strata: list[IntArray] = []
    gathered: list[IntArray] = []
    for index in range(log_runs.num_budgets):
        gathered.append(np.flatnonzero(log_runs.budget == index))
        if sum(map(len, gathered)) >= MIN_STRATUM:
            strata.append(np.concatenate(gathered))
            gathered = []
    if gathered:
        last = [strata.pop()] if strata else []
        strata.append(np.concatenate([*last, *gathered]))
    return strata


def draw_noise(log_runs: LogRuns, sd: float, correlation: float, count: int, rng: np.random.Generator) -> FloatArray:
    """Draws normal noise in log loss, correlated within groups, shape (count, n)."""
    own = rng.standard_normal((count, len(log_runs)))
    if correlation <= 0:
        return sd * own
    shared = rng.standard_normal((count, int(log_runs.group.max()) + 1))[:, log_runs.group]
    return np.asarray(sd * (np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own))


def group_correlation(residuals: FloatArray, group: IntArray) -> float:
    """Share of the residual variance that runs of one group have in common, 0 to 0.95.

    The mean product over pairs of one group, over the mean square; 0 where no run shares a group.
    """
    total = np.bincount(group, residuals)
    square = np.bincount(group, residuals**2)
    count = np.bincount(group)
    pairs = float((count * (count - 1)).sum())
    mean_square = float((residuals**2).mean())
    if pairs == 0 or mean_square == 0:
        return 0.0
    return float(np.clip(((total**2 - square).sum() / pairs) / mean_square, 0.0, 0.95))


def design_effect(residuals: FloatArray, group: IntArray) -> float:
    """Factor by which correlation within groups raises a variance: 1 + (runs per group - 1) times the correlation."""
    sizes = np.bincount(group)
    return 1 + (float((sizes**2).sum() / sizes.sum()) - 1) * group_correlation(residuals, group)


def normal_quantile(level: float) -> float:
    """Half-width in standard deviations of a two-sided normal interval."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def t_quantile(level: float, dof: float) -> float:
    """Half-width in standard errors of a two-sided Student interval; dof below 3 counts as 3.

    Cornish-Fisher expansion (Abramowitz & Stegun 26.7.5); within 0.5% of the exact value for dof >= 3 at
    levels up to 0.95.
    """
    z, v = normal_quantile(level), max(dof, 3.0)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return float(z + g1 / v + g2 / v**2 + g3 / v**3 + g4 / v**4)


def robust_sd(residuals: FloatArray) -> float:
    """1.4826 times the median absolute residual."""
    return float(1.4826 * np.median(np.abs(residuals)))
