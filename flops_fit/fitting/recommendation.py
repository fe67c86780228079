"""The recommendation: which law to use, and how much wider than its own interval the answer must be.

The default is the extended law on the runs that one smooth law can fit, with runs near the optimum weighted by
C^0.25 where far runs disagree (`methods/extended/law.py`). Backtests decided it. With one budget held out, on 11
published sweeps (Porian et al.'s seven RefinedWeb experiments, Chinchilla, three of Gemstones), |ln N_opt| error,
median and worst, and how often the law's own 90% interval covered the observed N_opt (the loss: .64, .91 once
widened):

    extended   .062   .24   1.00        approach1  .134   .28   1.00 (8 sweeps)
    windowed   .104   .41    .91        approach2  .140   .36    .73
    akima      .094   .54    .73        approach3  .549   .95    .36
    D/N = 20   .388   .59               slope 1/2  .399  1.23

With 2 and 3 budgets held out its median errors are .10 and .20, and one case misses by .9: Gemstones `cool_end`,
whose remaining runs all lie on one side of their optimum. Tried and rejected:

* a slope prior alpha = beta of sd .15: .21 instead of .14 with one budget held out (runs within 10%, unweighted);
* weights C^0 and C^0.5: .048 and .051 on N_opt, but .0106 and .0056 on the loss; C^0.5 pulls long extrapolations
  towards the top budgets' trend, so a quarter is a compromise;
* taking whichever law did best on the sweep's own backtests: no gain on the published sweeps, and coverage of
  N_opt fell from .97 to .72 in the simulated "curved" world at noise .002, since a law that was lucky has a narrow
  interval. Backtests therefore widen the answer and do not choose it, except where the default's exponent is
  essentially unconstrained (an interval of a wider than 1): an optimum of one parameter helps nobody.

In the simulated worlds of `tests/fitting/worlds.py` (4 worlds x 3 noises, targets 10, 100, 1000 times the largest
budget, 200 sweeps each) the default's 90% interval covers N_opt in 86 to 100% of sweeps, except for short runs at
noise .005 (.81, .84, .89; on 200 other sweeps .89, .90, .91), and the loss in 85 to 99%. In the exact world it is 1.6
to 3.5 times as wide as Approach 3's Laplace interval, which is wide enough in that world alone. One prior of fixed
width (`methods/extended/prior.py` weights several) was up to 6.3 times as wide there and covered .82 for short runs
at noise .002. Numbers: tests/benchmarks/fitting.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.backtest.form_error import MIN_TRIALS, REACH_OFFSET, form_uncertainty
from flops_fit.fitting.backtest.trials import Trial
from flops_fit.fitting.methods.registry import method_phrase, preferred_methods
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.options import FitOptions


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The recommended law and its model-form uncertainty beyond what the law itself states."""

    law: str | None
    reason: str
    n_form_sd: float
    """Sd of ln N_opt per unit of (0.3 + log10 extrapolation)."""
    loss_form_sd: float
    """The same for ln loss."""
    num_trials: int
    """Backtests behind that uncertainty; 0 means the stated floor."""


def default_law(available: Iterable[str]) -> str | None:
    """The preferred law of those that were fitted."""
    return next((name for name in preferred_methods() if name in available), None)


def recommend(trials: tuple[Trial, ...], laws: Mapping[str, LawFit], options: FitOptions) -> Recommendation:
    """Takes the default, or what the options ask for, and widens it by what the backtests showed.

    Args:
        trials: Of every method.
        laws: Those that were fitted to all runs, widened by their backtests.
        options: A forced law, which no other replaces where it was not fitted, and the floors.
    """
    first = default_law(laws) if options.law is None else None
    if options.law is not None and options.law in laws:
        law, reason = options.law, "asked for by the options"
    elif first is not None:
        law, reason = _by_evidence(trials, laws, first)
    else:
        missing = "no method" if options.law is None else method_phrase(options.law)
        return Recommendation(
            law=None, reason=f"{missing} could be fitted", n_form_sd=0.0, loss_form_sd=0.0, num_trials=0
        )
    own = [t for t in trials if t.law == law]
    n_form, loss_form, count = form_uncertainty(own, options)
    return Recommendation(law=law, reason=reason, n_form_sd=n_form, loss_form_sd=loss_form, num_trials=count)


def _by_evidence(trials: tuple[Trial, ...], laws: Mapping[str, LawFit], first: str) -> tuple[str, str]:
    """The default with its backtest score; another law only where the default's exponent is unconstrained."""
    score = {}
    for name in preferred_methods():
        own = [(t.n_error, t.reach) for t in trials if t.law == name and t.n_error is not None]
        if name in laws and len(own) >= MIN_TRIALS:
            score[name] = float(np.sqrt(np.mean([(error / (reach + REACH_OFFSET)) ** 2 for error, reach in own])))
    constrained = [
        n for n in preferred_methods() if n in laws and laws[n].knows_exponent and laws[n].outcome == "converged"
    ]
    if constrained and not laws[first].knows_exponent:
        best = min(constrained, key=lambda name: score.get(name, np.inf))
        tested = f"; on held-out budgets its {_rms_error(score[best])}" if best in score else ""
        return best, (
            f"these runs do not constrain the exponent of {method_phrase(first)}; predictions come from another "
            f"method that does constrain it, {method_phrase(best)}{tested}"
        )
    if first not in score:
        return (
            first,
            f"too few held-out budgets to compare methods; {method_phrase(first)} is the preferred one",
        )
    best = min(score, key=lambda name: score[name])
    tested = f"on held-out budgets {method_phrase(first)}'s {_rms_error(score[first])}"
    return (
        first,
        tested if best == first else f"{tested} ({score[best]:.2f} for {method_phrase(best)}, the best method)",
    )


def _rms_error(score: float) -> str:
    return f"RMS error in ln N_opt was {score:.2f} per decade of extrapolation"
