"""Trials: predictions of the larger budgets from the smaller ones, beside what was observed.

The top 1, 2, ... budgets are held out, every method is fitted to the rest, and its N_opt and loss at each of them
are compared with what was observed: the minimum of that budget's parabola. Two baselines are scored
too: D/N = 20, and a line of slope 1/2 through the known minima.

Only budgets with a usable minimum count as held out. Where fewer than three have one (a ladder, say), the
largest sixth, third and half of the runs are held out instead, and the test is of the law's loss at those held-out
runs that lie near the envelope of all.
"""

from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.inputs.log_runs import LogRuns, near_optimum, take_log_runs
from flops_fit.fitting.methods.registry import Methods, fit_methods
from flops_fit.fitting.methods.result import IsoflopCurve
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import normal_quantile

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


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The minimum of a budget's own curve, to score predictions with."""

    compute: float
    """The budget, FLOPs."""
    log_n: float
    log_n_sd: float
    log_loss: float
    log_loss_sd: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One method's prediction of one held-out budget."""

    hidden: int
    """How many top budgets were held out of its fit."""
    law: str
    compute: float
    """FLOPs of the held-out budget or run."""
    factor: float
    """C over the largest budget of its fit."""
    reach: float
    """log10 of that."""
    n_error: float | None
    """ln predicted minus ln observed N_opt; None where no minimum was observed."""
    n_sd: float
    """Of the prediction."""
    n_observed_sd: float
    """Of what was observed."""
    loss_error: float
    loss_sd: float
    loss_observed_sd: float


def observed_minima(curves: tuple[IsoflopCurve, ...], level: float) -> dict[int, Observed]:
    """The usable minima by budget index, with standard errors from their intervals."""
    half = 2 * normal_quantile(level)
    found = {}
    for index, curve in enumerate(curves):
        if curve.n_opt is None or curve.loss_opt is None:
            continue
        n, loss = curve.n_opt, curve.loss_opt
        found[index] = Observed(
            compute=curve.compute_budget,
            log_n=float(np.log(n.value)),
            log_n_sd=float(np.log(n.high / n.low)) / half,
            log_loss=float(np.log(loss.value)),
            log_loss_sd=float(np.log(loss.high / loss.low)) / half,
        )
    return found


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
    hidden: int, methods: Methods, log_runs: LogRuns, observed: dict[int, Observed], top: int, level: float
) -> tuple[Trial, ...]:
    """Every method's predictions of the budgets held out of its fit, up to budget index ``top`` (exclusive)."""
    if has_minima(observed):
        return _optimum_trials(hidden, methods, observed, top, level)
    return _loss_trials(hidden, methods, log_runs, top, level)


def _loss_trials(hidden: int, methods: Methods, log_runs: LogRuns, top: int, level: float) -> tuple[Trial, ...]:
    quantile = normal_quantile(level)
    unseen = (log_runs.budget >= methods.log_runs.num_budgets) & (log_runs.budget < top)
    unseen &= near_optimum(log_runs, NEAR)
    if not unseen.any():
        return ()
    log_n, log_d, log_c = log_runs.log_n[unseen], log_runs.log_d[unseen], log_runs.log_c[unseen]
    trials: list[Trial] = []
    for name, method in methods.fitted.items():
        spread = method.log_loss_at(log_n, log_d, level)
        if spread is None:
            continue
        sd = 0.5 * (spread.high - spread.low) / quantile
        error = spread.value - log_runs.log_loss[unseen]
        trials += [
            Trial(
                hidden=hidden,
                law=name,
                compute=float(np.exp(log_c[i])),
                factor=float(np.exp(log_c[i]) / methods.log_runs.budgets[-1]),
                reach=float(log_c[i] - methods.log_runs.log_c_top) / float(np.log(10)),
                n_error=None,
                n_sd=0.0,
                n_observed_sd=0.0,
                loss_error=float(error[i]),
                loss_sd=float(sd[i]),
                loss_observed_sd=RUN_NOISE,
            )
            for i in range(len(error))
        ]
    return tuple(trials)


def _optimum_trials(
    hidden: int, methods: Methods, observed: dict[int, Observed], top: int, level: float
) -> tuple[Trial, ...]:
    seen = methods.log_runs.num_budgets
    targets = [observed[i] for i in range(seen, top) if i in observed]
    if not targets:
        return ()
    log_c = np.log([t.compute for t in targets])
    quantile = normal_quantile(level)
    trials = []
    for name, method in methods.fitted.items():
        n, loss = method.optimum(log_c, level)
        n_sd, loss_sd = (0.5 * (s.high - s.low) / quantile for s in (n, loss))
        trials += [
            Trial(
                hidden=hidden,
                law=name,
                compute=t.compute,
                factor=float(t.compute / methods.log_runs.budgets[-1]),
                reach=float((log_c[i] - methods.log_runs.log_c_top) / np.log(10)),
                n_error=float(n.value[i] - t.log_n),
                n_sd=float(n_sd[i]),
                n_observed_sd=t.log_n_sd,
                loss_error=float(loss.value[i] - t.log_loss),
                loss_sd=float(loss_sd[i]),
                loss_observed_sd=t.log_loss_sd,
            )
            for i, t in enumerate(targets)
        ]
    return tuple(trials)


def log_n_at_ratio(flops: FlopsFunction, log_c: float, ratio: float = 20.0) -> float:
    """Log: ln N with D/N = ``ratio`` on C FLOPs, bisected on the user's FLOPs."""
    low, high = -50.0, 120.0
    for _ in range(70):
        middle = 0.5 * (low + high)
        tokens = float(flops.log_tokens(np.asarray(log_c), np.asarray(middle)))
        low, high = (middle, high) if tokens - middle > np.log(ratio) else (low, middle)
    return 0.5 * (low + high)


def log_n_at_slope_half(observed: dict[int, Observed], seen: int, log_c: float) -> float | None:
    """Log: ln N of a line with slope 1/2 through the minima of the budgets below index ``seen``."""
    known = [o for i, o in observed.items() if i < seen]
    if not known:
        return None
    return float(np.mean([o.log_n - 0.5 * np.log(o.compute) for o in known]) + 0.5 * log_c)
