"""Would the smaller budgets have predicted the larger ones? The test that gates the answer.

The top 1, 2, ... budgets are hidden, every method is fitted to the rest, and its N_opt and loss at each hidden
budget are compared with what was then observed: the parabola's minimum of that budget. Two baselines stand
beside: D/N = 20, and a line of slope 1/2 through the known minima.
"""

from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.columns import Columns, select_columns
from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.methods import Methods, fit_methods
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.outcomes import IsoflopCurve
from flops_fit.fitting.resampling import normal_quantile

MIN_BUDGETS_LEFT = 3
"""A roll-out from two budgets tests nothing: no method gives an exponent there."""
BOOTSTRAPS = 60
"""Enough for the standard error that a roll-out is measured in."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a budget's own curve says, to hold predictions against."""

    log_c: float
    log_n: float
    log_n_sd: float
    log_loss: float
    log_loss_sd: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One method's prediction of one hidden budget."""

    hidden: int
    """How many top budgets its fit did not see."""
    law: str
    log_c: float
    reach: float
    """log10 of C over the largest budget that it saw."""
    n_error: float
    """Log: ln predicted minus ln observed N_opt."""
    n_sd: float
    """Of that difference: the prediction's and the observation's."""
    n_observed_sd: float
    loss_error: float
    loss_sd: float


def observed_minima(curves: tuple[IsoflopCurve, ...], level: float) -> dict[int, Observed]:
    """The believable minima by budget index, with standard errors from their intervals."""
    half = 2 * normal_quantile(level)
    found = {}
    for index, curve in enumerate(curves):
        if curve.n_opt is None or curve.loss_opt is None:
            continue
        n, loss = curve.n_opt, curve.loss_opt
        found[index] = Observed(
            log_c=float(np.log(curve.compute_budget)),
            log_n=float(np.log(n.value)),
            log_n_sd=float(np.log(n.high / n.low)) / half,
            log_loss=float(np.log(loss.value)),
            log_loss_sd=float(np.log(loss.high / loss.low)) / half,
        )
    return found


def fit_hidden(columns: Columns, options: FitOptions) -> dict[int, Methods]:
    """All methods with the top 1, 2, ... budgets hidden.

    Twice as many are hidden as are reported, so that the default's own choice can be rolled out too.
    """
    deepest = min(2 * options.max_hidden_budgets, columns.num_budgets - MIN_BUDGETS_LEFT)
    return {
        hidden: fit_methods(
            select_columns(columns, columns.budget < columns.num_budgets - hidden), options, count=BOOTSTRAPS
        )
        for hidden in range(1, deepest + 1)
    }


def trials_of(
    hidden: int, methods: Methods, observed: dict[int, Observed], top: int, level: float
) -> tuple[Trial, ...]:
    """Predictions by every method of the budgets it did not see, up to budget index ``top`` (exclusive)."""
    seen = methods.columns.num_budgets
    targets = [observed[i] for i in range(seen, top) if i in observed]
    if not targets:
        return ()
    log_c = np.array([t.log_c for t in targets])
    quantile = normal_quantile(level)
    trials = []
    for name, method in methods.fitted.items():
        n, loss = method.optimum(log_c, level)
        n_sd, loss_sd = (0.5 * (s.high - s.low) / quantile for s in (n, loss))
        trials += [
            Trial(
                hidden=hidden,
                law=name,
                log_c=t.log_c,
                reach=float((t.log_c - methods.columns.log_c_top) / np.log(10)),
                n_error=float(n.value[i] - t.log_n),
                n_sd=float(np.hypot(n_sd[i], t.log_n_sd)),
                n_observed_sd=t.log_n_sd,
                loss_error=float(loss.value[i] - t.log_loss),
                loss_sd=float(np.hypot(loss_sd[i], t.log_loss_sd)),
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
    return float(np.mean([o.log_n - 0.5 * o.log_c for o in known]) + 0.5 * log_c)
