"""Which law to use, and how much wider than its own interval must the answer be?"""

from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.rollout import Trial
from flops_fit.records import FloatArray

PREFERENCE = ("extended", "windowed", "approach3", "approach2", "akima")
"""Where no roll-out can tell, the first of these that gives a number."""
REACH_OFFSET = 0.3
"""Form error grows as 0.3 + log10 of the extrapolation (research/science.md section 3)."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The recommended law and its form uncertainty beyond what the law itself states."""

    law: str | None
    reason: str
    n_form_sd: float
    """Sd of ln N_opt per unit of (0.3 + log10 extrapolation)."""
    loss_form_sd: float
    """The same for ln loss."""
    num_trials: int
    """Roll-outs it rests on; 0 means the stated floor."""


def choose(trials: tuple[Trial, ...], available: tuple[str, ...], options: FitOptions) -> Choice:
    """Lets the roll-outs decide.

    Args:
        trials: Of every method.
        available: Methods that give numbers on all runs.
        options: A forced law, and the floors.
    """
    names = [name for name in PREFERENCE if name in available]
    if options.law is not None and options.law in available:
        names = [options.law]
    if not names:
        return Choice(law=None, reason="no method gives a number", n_form_sd=0.0, loss_form_sd=0.0, num_trials=0)
    law = names[0]
    own = [t for t in trials if t.law == law]
    n_form, loss_form, count = form_uncertainty(own, options)
    return Choice(
        law=law, reason="the first that gives a number", n_form_sd=n_form, loss_form_sd=loss_form, num_trials=count
    )


def form_uncertainty(trials: list[Trial], options: FitOptions) -> tuple[float, float, int]:
    """Sd per unit of distance that the roll-out errors show beyond their own standard errors."""
    if len(trials) < 2:
        return options.form_floor * np.log(10), options.loss_form_floor * np.log(10), 0
    distance = np.array([t.reach for t in trials]) + REACH_OFFSET
    n = _excess(np.array([t.n_error for t in trials]), np.array([t.n_sd for t in trials]), distance)
    loss = _excess(np.array([t.loss_error for t in trials]), np.array([t.loss_sd for t in trials]), distance)
    return n, loss, len(trials)


def _excess(error: FloatArray, sd: FloatArray, distance: FloatArray) -> float:
    return float(np.sqrt(max(float(np.mean((error**2 - sd**2) / distance**2)), 0.0)))
