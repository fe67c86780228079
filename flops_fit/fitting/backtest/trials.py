"""Trials: predictions of the larger budgets from the smaller ones, beside what was observed.

The top 1, 2, ... budgets are held out, every method is fitted to the rest, and its N_opt and loss at each of them
are compared with what was observed: the minimum of that budget's parabola. Two baselines are scored
too: D/N = 20, and a line of slope 1/2 through the known minima.

Only budgets with a usable minimum count as held out. Where fewer than three have one (a ladder, say), the
largest sixth, third and half of the runs are held out instead, and the test is of the law's loss at those held-out
runs that lie near the envelope of all.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.inputs.log_runs import LogRuns, near_optimum, take_log_runs
from flops_fit.fitting.methods.registry import Methods, fit_methods
from flops_fit.fitting.methods.result import IsoflopCurve
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import normal_quantile
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.records import FloatArray, Interval

MIN_BUDGETS_LEFT = 3
"""A backtest from two budgets tests nothing: no method is fitted there."""
MIN_OBSERVED = 3
MIN_RUNS_LEFT = 8
NEAR = 0.1
"""Held-out runs further above the envelope than this share test the law where nobody will use it."""
RUN_NOISE = 0.002
"""Sd of one run's log loss between seeds, about (Porian et al. 2024 assume the same)."""
BOOTSTRAPS = 60
"""Enough for the standard error that a backtest is scored against."""


class Measured(NamedTuple):
    """A number read off the runs, in logs."""

    log: float
    sd: float


class Observed(NamedTuple):
    """The minimum of a budget's own curve, to score predictions with."""

    compute: float
    """The budget, FLOPs."""
    n: Measured
    loss: Measured


class Score(NamedTuple):
    """A prediction against what was observed, in logs."""

    error: float
    """Predicted minus observed."""
    sd: float
    """Of the prediction."""
    observed: Measured

    @property
    def total_sd(self) -> float:
        """Sd of the error, if the law were exactly right."""
        return float(np.hypot(self.sd, self.observed.sd))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One method's prediction of one held-out budget."""

    law: str
    compute: float
    """FLOPs of the held-out budget or run."""
    factor: float
    """C over the largest budget of its fit."""
    reach: float
    """log10 of that."""
    n: Score | None
    """Of N_opt; None where no minimum was observed."""
    loss: Score


def observed_minima(curves: tuple[IsoflopCurve, ...], level: float) -> dict[int, Observed]:
    """The usable minima by budget index, with standard errors from their intervals."""

    def measured(interval: Interval) -> Measured:
        width = float(np.log(interval.high / interval.low))
        return Measured(float(np.log(interval.value)), width / (2 * normal_quantile(level)))

    return {
        index: Observed(curve.compute_budget, measured(curve.n_opt), measured(curve.loss_opt))
        for index, curve in enumerate(curves)
        if curve.n_opt is not None and curve.loss_opt is not None
    }


def has_minima(observed: dict[int, Observed]) -> bool:
    """Whether enough minima were observed to test N_opt; otherwise only the loss is."""
    return len(observed) >= MIN_OBSERVED


def fit_hidden(log_runs: LogRuns, observed: dict[int, Observed], options: FitOptions) -> dict[int, Methods]:
    """All methods with the top 1, 2, ... observed budgets, and all above them, held out.

    Twice as many are held out as are reported, so that the default's own choice can be backtested too.
    """
    if has_minima(observed):
        targets = sorted(observed, reverse=True)[: 2 * options.max_hidden_budgets]
        cuts = {depth + 1: index for depth, index in enumerate(targets)}
    else:
        order = np.sort(log_runs.budget)
        shares = range(1, min(3, options.max_hidden_budgets) + 1)
        cuts = {share: int(order[len(order) * (6 - share) // 6]) for share in shares}
    fits = {}
    for depth, cut in cuts.items():
        kept = log_runs.budget < cut
        if cut >= MIN_BUDGETS_LEFT and kept.sum() >= MIN_RUNS_LEFT and not kept.all():
            fits[depth] = fit_methods(take_log_runs(log_runs, kept), options, count=BOOTSTRAPS)
    return fits


def trials_of(
    methods: Methods, log_runs: LogRuns, observed: dict[int, Observed], top: int, level: float
) -> list[Trial]:
    """Every method's predictions of the budgets held out of its fit, up to budget index ``top`` (exclusive)."""
    fitted = methods.log_runs
    sizes: list[Measured] = []
    if has_minima(observed):
        minima = [observed[i] for i in range(fitted.num_budgets, top) if i in observed]
        compute = np.array([o.compute for o in minima])
        log_c = np.log(compute)
        sizes, losses = [o.n for o in minima], [o.loss for o in minima]
    else:
        unseen = (log_runs.budget >= fitted.num_budgets) & (log_runs.budget < top) & near_optimum(log_runs, NEAR)
        log_n, log_d, log_c = log_runs.log_n[unseen], log_runs.log_d[unseen], log_runs.log_c[unseen]
        compute = np.exp(log_c)
        losses = [Measured(log_loss, RUN_NOISE) for log_loss in log_runs.log_loss[unseen].tolist()]
    reach = (log_c - fitted.log_budgets[-1]) / np.log(10)
    targets = list(zip(compute.tolist(), (compute / fitted.budgets[-1]).tolist(), reach.tolist(), strict=True))
    trials: list[Trial] = []
    for name, method in methods.fitted.items() if targets else ():
        n: Spread | None = None
        loss: Spread | None
        if sizes:
            n, loss = method.optimum(log_c, level)
        else:
            loss = method.log_loss_at(log_n, log_d, level)
        if loss is not None:
            n_scores = [None] * len(targets) if n is None else _scores(n, sizes, level)
            trials += [
                Trial(law=name, compute=c, factor=factor, reach=decades, n=n_score, loss=loss_score)
                for (c, factor, decades), n_score, loss_score in zip(
                    targets, n_scores, _scores(loss, losses, level), strict=True
                )
            ]
    return trials


def _scores(predicted: Spread, observed: list[Measured], level: float) -> list[Score]:
    sd: FloatArray = 0.5 * (predicted.high - predicted.low) / normal_quantile(level)
    return [Score(float(predicted.value[i] - o.log), float(sd[i]), o) for i, o in enumerate(observed)]


def log_n_at_ratio(flops: FlopsFunction, log_c: float, ratio: float = 20.0) -> float:
    """Log: ln N with D/N = ``ratio`` on C FLOPs, bisected on the user's FLOPs."""
    low, high = -50.0, 120.0
    for _ in range(70):
        middle = 0.5 * (low + high)
        tokens = float(flops.log_tokens(np.asarray(log_c), np.asarray(middle)))
        low, high = (middle, high) if tokens - middle > np.log(ratio) else (low, middle)
    return 0.5 * (low + high)
