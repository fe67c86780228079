"""The recommendation: which law to use, and why.

The default is the extended law, on the runs that one smooth law can fit; far outside the runs it answers together with
others (`stack.py`). Backtests of published sweeps decided it; `tests/benchmarks/fitting.py real` prints them.
Backtests on the user's own runs widen the answer and do not choose the law, except where the default's exponent is
essentially unconstrained (an interval of a wider than its prior's): taking whichever law was luckiest on three held-out
budgets gained nothing on published sweeps, and a law that was lucky has a narrow interval.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.backtest.form_error import REACH_OFFSET
from flops_fit.fitting.backtest.stack import Stack
from flops_fit.fitting.backtest.trials import Trial
from flops_fit.fitting.methods.registry import method_phrase, preferred_methods
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.options import FitOptions

MIN_TRIALS = 2


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The recommended law and its model-form error beyond what the law itself states."""

    law: str | None
    reason: str
    n_form_sd: float = 0.0
    """Sd of ln N_opt per unit of (0.3 + log10 extrapolation)."""
    loss_form_sd: float = 0.0
    """The same for ln loss."""
    num_trials: int = 0
    """Backtests behind it; 0 means that published sweeps alone tell."""


def default_law(available: Iterable[str]) -> str | None:
    """The preferred law of those that were fitted."""
    return next((name for name in preferred_methods() if name in available), None)


def recommend(trials: Sequence[Trial], stack: Stack, options: FitOptions) -> Recommendation:
    """Takes the default, or what the options ask for."""
    law, reason = choose_law(trials, stack.laws, options)
    if law is None:
        return Recommendation(law=None, reason=reason)
    form = stack.forms[law]
    return Recommendation(
        law=law, reason=reason, n_form_sd=form.n_sd, loss_form_sd=form.loss_sd, num_trials=form.num_trials
    )


def choose_law(trials: Sequence[Trial], laws: Mapping[str, LawFit], options: FitOptions) -> tuple[str | None, str]:
    """The law to use and why: the one asked for, which no other replaces where it was not fitted, or the default."""
    if options.law is not None and options.law in laws:
        return options.law, "asked for by the options"
    if options.law is not None:
        return None, f"{method_phrase(options.law)} could not be fitted"
    first = default_law(laws)
    if first is None:
        return None, "no method could be fitted"
    ranked = [name for name in preferred_methods() if name in laws]
    score = {}
    for name in ranked:
        own = [t.n.error / (t.reach + REACH_OFFSET) for t in trials if t.law == name and t.n is not None]
        if len(own) >= MIN_TRIALS:
            score[name] = float(np.sqrt(np.mean(np.square(own))))
    constrained = [n for n in ranked if laws[n].knows_exponent and laws[n].outcome == "converged"]
    if constrained and not laws[first].knows_exponent:
        best = min(constrained, key=lambda name: score.get(name, np.inf))
        tested = f"; on held-out budgets its {_rms_error(score[best])}" if best in score else ""
        return best, (
            f"these runs do not constrain the exponent of {method_phrase(first)}; predictions come from another "
            f"method that does constrain it, {method_phrase(best)}{tested}"
        )
    if first not in score:
        return first, f"too few held-out budgets to compare methods; {method_phrase(first)} is the preferred one"
    best = min(score, key=lambda name: score[name])
    tested = f"on held-out budgets {method_phrase(first)}'s {_rms_error(score[first])}"
    better = "" if best == first else f" ({score[best]:.2f} for {method_phrase(best)}, the best method)"
    return first, f"{tested}{better}"


def _rms_error(score: float) -> str:
    return f"RMS error in ln N_opt was {score:.2f} per decade of extrapolation"
