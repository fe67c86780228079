"""Model-form error: what the backtest errors show beyond their own standard errors, per unit of extrapolation."""

from dataclasses import replace

import numpy as np

from flops_fit.fitting.backtest.trials import Trial
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import normal_quantile, t_quantile
from flops_fit.fitting.uncertainty.spread import widened_interval

REACH_OFFSET = 0.3
"""Model-form error grows as 0.3 + log10 of the extrapolation (research/science.md section 3)."""
MIN_TRIALS = 2
SURPRISE = 1.1
"""Backtests widen the answer where their root mean square z is above this."""


def form_uncertainty(trials: list[Trial], options: FitOptions) -> tuple[float, float, int]:
    """Sd per unit of distance that the backtest errors show beyond their own standard errors.

    Returns:
        Of ln N_opt and of ln loss, and how many trials that is; the stated floor where there are too few trials.
    """
    sized = [(t.n_error, t.n_sd, t) for t in trials if t.n_error is not None]
    losses = [(t.loss_error, t.loss_sd, t) for t in trials]
    n = _excess(sized, options) if len(sized) >= MIN_TRIALS else options.form_floor * np.log(10)
    loss = _excess(losses, options) if len(losses) >= MIN_TRIALS else options.loss_form_floor * np.log(10)
    return float(n), float(loss), len(trials)


def widen_law(law: LawFit, trials: tuple[Trial, ...], options: FitOptions) -> LawFit:
    """Widens a law's exponents, as its predictions are, by what its backtests, or the stated floor, add per decade."""
    if law.a is None or law.b is None:
        return law
    sd, _, _ = form_uncertainty([t for t in trials if t.law == law.name], options)
    added = normal_quantile(options.level) * sd / np.log(10)
    return replace(law, a=widened_interval(law.a, added), b=widened_interval(law.b, added))


def _excess(trials: list[tuple[float, float, Trial]], options: FitOptions) -> float:
    """Excess sd per unit of distance; zero where the errors are about as large as their standard errors."""
    error, sd = (np.array([t[i] for t in trials], dtype=np.float64) for i in (0, 1))
    distance = np.array([t.reach for _, _, t in trials]) + REACH_OFFSET
    if np.sqrt(np.mean((error / sd) ** 2)) <= SURPRISE:
        return 0.0
    excess = float(np.sqrt(max(float(np.mean((error**2 - sd**2) / distance**2)), 0.0)))
    # The errors of few held-out budgets are weak evidence about the next one: normal over chi is Student's t.
    budgets = len({t.compute for _, _, t in trials})
    return excess * t_quantile(options.level, budgets) / normal_quantile(options.level)
