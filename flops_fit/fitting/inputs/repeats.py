"""Repeated data: the effective tokens D' = U + U R (1 - exp(-(D/U - 1)/R)) of D tokens of which U are unique.

R is the number of repeats after which more are worth little; 15.4 is the value of Muennighoff et al. 2023
(arXiv:2305.16264, eq. 5). Within four epochs D' hardly depends on it: 8 and 30 differ by 6 %.
"""

import numpy as np

from flops_fit.records import FloatArray, RunTable

REPEAT_CONSTANT = 15.4
REPEATED = 1.05
"""Runs with more epochs than this repeat their data."""


def epochs_of(runs: RunTable) -> FloatArray:
    """D over unique tokens where these are known, else the epochs as stated; 1 where neither is, and never below 1."""
    epochs = np.full(len(runs), np.nan) if runs.epochs is None else np.asarray(runs.epochs, dtype=np.float64)
    if runs.unique_tokens is not None:
        epochs = np.where(runs.unique_tokens > 0, runs.num_tokens / np.maximum(runs.unique_tokens, 1.0), epochs)
    return np.where(np.isfinite(epochs), np.maximum(epochs, 1.0), 1.0)


def log_worth(epochs: FloatArray, repeat_constant: FloatArray | float) -> FloatArray:
    """Log: ln D'/D of runs with so many epochs, each at least 1."""
    return np.asarray(np.log((1 - repeat_constant * np.expm1((1 - epochs) / repeat_constant)) / epochs))


def effective_tokens(num_tokens: FloatArray, unique_tokens: FloatArray, repeat_constant: float) -> FloatArray:
    """D' of the module's formula; D itself where nothing was repeated."""
    return np.asarray(num_tokens * np.exp(log_worth(np.maximum(num_tokens / unique_tokens, 1.0), repeat_constant)))
