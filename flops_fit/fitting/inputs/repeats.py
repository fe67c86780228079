"""Repeated data: effective tokens D' = U + U R (1 - exp(-(D/U - 1)/R)) of D tokens of which U are unique.

R is the number of repeats after which more are worth little; 15.4 is the value of Muennighoff et al. 2023
(arXiv:2305.16264, eq. 5). Within four epochs D' hardly depends on it: R of 8 and of 30 differ by 6%.
"""

import numpy as np

from flops_fit.records import FloatArray, RunTable

REPEAT_CONSTANT = 15.4


def epochs_of(runs: RunTable) -> FloatArray:
    """D over unique tokens where these are known, else the epochs as stated; 1 where neither is, and never below 1."""
    epochs = np.full(len(runs), np.nan) if runs.epochs is None else np.asarray(runs.epochs, dtype=np.float64)
    if runs.unique_tokens is not None:
        epochs = np.where(runs.unique_tokens > 0, runs.num_tokens / np.maximum(runs.unique_tokens, 1.0), epochs)
    return np.where(np.isfinite(epochs), np.maximum(epochs, 1.0), 1.0)


def effective_tokens(num_tokens: FloatArray, unique_tokens: FloatArray, repeat_constant: float) -> FloatArray:
    """D' of the module's formula; D itself where nothing was repeated."""
    unique = np.minimum(unique_tokens, num_tokens)
    return np.asarray(unique * (1 - repeat_constant * np.expm1((1 - num_tokens / unique) / repeat_constant)))
