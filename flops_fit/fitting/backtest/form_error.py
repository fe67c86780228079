"""Model-form error: how far a law is off beyond its own standard error, learned from published and own backtests.

The error of ln N_opt grows as s (0.3 + log10 extrapolation), and that of ln loss likewise. Each sweep has its own s,
drawn from a population of sweeps: published ones give the prior (`PRIORS`), and the user's own held-out budgets update
it. So s is never zero because three budgets happened to agree, and no threshold decides whether it counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from flops_fit.fitting.backtest.trials import Score, Trial
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import normal_quantile
from flops_fit.fitting.uncertainty.spread import widened_interval

REACH_OFFSET = 0.3
"""Model-form error grows as 0.3 + log10 of the extrapolation (research/science.md section 3)."""
PRIORS = {
    "extended": ((0.077, 0.5), (0.0139, 0.6)),
    "farseer": ((0.1, 1.0), (0.0049, 1.0)),
    "windowed": ((0.064, 1.3), (0.030, 1.0)),
    "approach2": ((0.112, 1.0), (0.012, 1.3)),
}
"""Median and sd of ln s over sweeps, of ln N_opt and of ln loss.

Sweeps: Porian et al. 2024 on RefinedWeb (ten), Llama 3 and Chinchilla (both digitised), Marin nemotron, misfitting;
their sources stand in shared/data/README.md. `tests/benchmarks/fitting.py real` prints what they make most likely, and
the s of each. The loss's are near that. Those of ln N_opt are wider on purpose: beside the error of a measured optimum
(sd .11) a single sweep shows little (most likely 0 to .22, median .02), which is no proof that a law is right."""
OTHER_LAWS = ((0.11, 1.0), (0.014, 1.0))
"""Not measured: about those of Approach 2 and of the extended law's loss."""
GRID = np.exp(np.linspace(-3.0, 3.0, 49))
"""Of s over its prior median."""


@dataclass(frozen=True, kw_only=True)
class FormError:
    """Model-form error of one law: root mean square of s over its posterior."""

    n_sd: float
    """Sd of ln N_opt per unit of (0.3 + log10 extrapolation)."""
    loss_sd: float
    """The same for ln loss."""
    n_score: float
    """Root mean square error of ln N_opt in the same units, with whatever the law's own standard error explains."""
    num_trials: int
    """Backtests behind it; 0 means that published sweeps alone tell."""


def form_error(law: str, trials: Iterable[Trial], options: FitOptions) -> FormError:
    """Posterior of a law's model-form error, by its backtests; the prior where there are none."""
    trials = [t for t in trials if t.law == law]
    sized = [(t, t.n) for t in trials if t.n is not None]
    n_prior, loss_prior = (
        prior if asked is None else (asked * np.log(10), prior[1])
        for asked, prior in zip((options.form_sd, options.loss_form_sd), PRIORS.get(law, OTHER_LAWS), strict=True)
    )
    n_sd, loss_sd = _posterior_sd(sized, *n_prior), _posterior_sd([(t, t.loss) for t in trials], *loss_prior)
    errors = [score.error / (t.reach + REACH_OFFSET) for t, score in sized]
    n_score = float(np.sqrt(np.mean(np.square(errors)))) if errors else n_sd
    return FormError(n_sd=n_sd, loss_sd=loss_sd, n_score=n_score, num_trials=len(trials))


def widen_law(law: LawFit, form: FormError, level: float) -> LawFit:
    """Widens a law's exponents, as its predictions are, by its model-form error per decade."""
    if law.a is None or law.b is None:
        return law
    added = normal_quantile(level) * form.n_sd / np.log(10)
    return replace(law, a=widened_interval(law.a, added), b=widened_interval(law.b, added))


def _posterior_sd(trials: list[tuple[Trial, Score]], median: float, log_sd: float) -> float:
    """Root mean square of s: a log-normal prior on a grid times the normal likelihood of the errors.

    Errors at one held-out budget, from fits that differ in what else was held out, count as one together.
    """
    s = median * GRID
    log_weight = -0.5 * (np.log(GRID) / log_sd) ** 2
    if trials:
        rows = np.array([(score.error, score.total_sd, t.reach + REACH_OFFSET) for t, score in trials])
        error, sd, distance = rows.T[:, :, None]
        variance = sd**2 + (s * distance) ** 2
        share = len({t.compute for t, _ in trials}) / len(trials)
        log_weight += share * (-0.5 * np.log(variance) - 0.5 * error**2 / variance).sum(0)
    weight = np.exp(log_weight - log_weight.max())
    return float(np.sqrt(weight @ s**2 / weight.sum()))
