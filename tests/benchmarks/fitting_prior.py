"""The prior on model-form error: what `flops_fit/fitting/backtest/form_error.py` holds, from hidden budgets.

Each sweep has an s: the error of a law's ln N_opt, or ln loss, is normal with the law's own sd, that of the measured
optimum, and s (0.3 + log10 extrapolation). Over sweeps ln s is normal; its median and sd are most likely where each
sweep counts with the whole likelihood of its s.
"""

import numpy as np

from flops_fit.fitting.backtest.form_error import PRIORS, REACH_OFFSET
from flops_fit.fitting.methods.optimum_line import PARABOLA_ERROR

GRID = np.geomspace(5e-4, 2.0, 80)
MEDIANS, LOG_SDS = np.geomspace(1e-3, 1.0, 70), np.arange(0.3, 1.31, 0.1)
LOSS_ERROR = 0.002
"""Sd of ln loss at a measured minimum."""


def print_priors(scores):
    """Prints, for each law with a prior, the most likely population beside the one in the code, and each sweep's s.

    Gemstones' three sweeps stand on the same few models with budgets 10 % apart, and are left out.
    """
    scores = [s for s in scores if not s.sweep.startswith("gemstones")]
    for law, in_code in PRIORS.items():
        own = [s for s in scores if s.law == law]
        sizes = [(s.sweep, s.error, np.hypot(s.own_sd, PARABOLA_ERROR), s.reach) for s in own]
        losses = [(s.sweep, s.loss_error, np.hypot(s.own_loss_sd, LOSS_ERROR), s.reach) for s in own]
        for what, errors, stated in (("ln N_opt", sizes, in_code[0]), ("ln loss", losses, in_code[1])):
            sweeps = {name: likelihood([e[1:] for e in errors if e[0] == name]) for name, *_ in errors}
            median, log_sd = population(np.stack(list(sweeps.values())))
            print(f"  {law:10s}{what:9s} median {median:.4f}, sd of ln {log_sd:.1f}; in the code {stated}")
            if law == "extended":
                print("    " + ", ".join(f"{name} {GRID[np.argmax(row)]:.3f}" for name, row in sweeps.items()))


def likelihood(errors):
    """Log likelihood of each s of GRID; errors of one sweep share a target and count as one together."""
    error, sd, reach = np.array(errors).T[:, :, None]
    variance = sd**2 + (GRID * (reach + REACH_OFFSET)) ** 2
    return (-0.5 * np.log(variance) - 0.5 * error**2 / variance).mean(0)


def population(rows):
    """The (median, sd of ln s) that is most likely, of log likelihoods (sweeps, GRID)."""
    median, log_sd, log_s = MEDIANS[:, None, None], LOG_SDS[None, :, None], np.log(GRID)
    prior = np.exp(-0.5 * ((log_s - np.log(median)) / log_sd) ** 2)
    prior /= prior.sum(-1, keepdims=True)
    evidence = sum(np.log(prior @ np.exp(row - row.max())) for row in rows)
    i, j = np.unravel_index(np.argmax(evidence), evidence.shape)
    return float(MEDIANS[i]), float(LOG_SDS[j])
