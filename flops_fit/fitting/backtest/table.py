"""The backtest table: every method, the default, and the two baselines against each held-out budget."""

from typing import NamedTuple

import numpy as np

from flops_fit.fitting.backtest.form_error import REACH_OFFSET
from flops_fit.fitting.backtest.recommendation import choose_law
from flops_fit.fitting.backtest.stack import Stack, make_stack
from flops_fit.fitting.backtest.trials import Score, Trial, fit_hidden, log_n_at_ratio, observed_minima, trials_of
from flops_fit.fitting.methods.registry import Methods
from flops_fit.fitting.methods.result import BacktestRow
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import normal_quantile
from flops_fit.fitting.uncertainty.spread import Spread

Cell = tuple[float | None, bool | None]
"""The error of a prediction, and whether its interval held what was observed."""
NOTHING: Cell = (None, None)


class Backtest(NamedTuple):
    """Every trial of every method, and the rows for people."""

    trials: tuple[Trial, ...]
    rows: tuple[BacktestRow, ...]


def run_backtest(methods: Methods, options: FitOptions) -> Backtest:
    """Holds out the top budgets of the runs one after another and tests what the rest predicts.

    A "default" row is by the law that would have been chosen without the budgets held out.
    """
    log_runs, level = methods.log_runs, options.level
    observed = observed_minima(methods.curves, level)
    hidden = fit_hidden(log_runs, observed, options)
    trials: list[Trial] = []
    rows: list[BacktestRow] = []
    for depth in (d for d in hidden if d <= options.max_hidden_budgets):
        seen, deeper = hidden[depth].log_runs.num_budgets, range(depth + 1, depth + options.max_hidden_budgets + 1)
        known = [t for d in deeper if d in hidden for t in trials_of(hidden[d], log_runs, observed, seen, level)]
        stack = make_stack(hidden[depth], known, options)
        first, _ = choose_law(known, stack.laws, options)
        own = trials_of(hidden[depth], log_runs, observed, log_runs.num_budgets, level)
        trials += own
        rows += [_row(depth, t.compute, t.law, *_alone(t, stack, level)) for t in own]
        rows += [_row(depth, t.compute, "default", *_together(t, stack, level)) for t in own if t.law == first]
        levels = [o.n.log - 0.5 * np.log(o.compute) for index, o in observed.items() if index < seen]
        for target in (o for index, o in observed.items() if index >= seen):
            log_c = float(np.log(target.compute))
            guesses = {"ratio20": log_n_at_ratio(log_runs.flops, log_c)}
            if levels:  # a line of slope 1/2 through the minima that are known
                guesses["slope_half"] = float(np.mean(levels) + 0.5 * log_c)
            rows += [_row(depth, target.compute, law, (n - target.n.log, None)) for law, n in guesses.items()]
    return Backtest(tuple(trials), tuple(sorted(rows, key=lambda r: (r.hidden, r.compute_budget))))


def _alone(trial: Trial, stack: Stack, level: float) -> tuple[Cell, Cell]:
    """Scores one law's interval, strictly: what was observed counts as exact."""
    form, distance = stack.forms[trial.law], trial.reach + REACH_OFFSET

    def cell(score: Score, form_sd: float) -> Cell:
        return score.error, abs(score.error) <= normal_quantile(level) * float(np.hypot(score.sd, form_sd * distance))

    return NOTHING if trial.n is None else cell(trial.n, form.n_sd), cell(trial.loss, form.loss_sd)


def _together(trial: Trial, stack: Stack, level: float) -> tuple[Cell, Cell]:
    """Scores what the default would have answered, as strictly."""
    if trial.n is None:
        return _alone(trial, stack, level)

    def cell(spread: Spread, observed: float) -> Cell:
        return float(spread.value[0] - observed), bool(spread.low[0] <= observed <= spread.high[0])

    n, loss = stack.together(trial.law, np.log([trial.compute]), level)
    return cell(n, trial.n.observed.log), cell(loss, trial.loss.observed.log)


def _row(hidden: int, compute: float, law: str, n: Cell, loss: Cell = NOTHING) -> BacktestRow:
    return BacktestRow(
        hidden=hidden,
        compute_budget=compute,
        law=law,
        log_n_opt_error=n[0],
        log_loss_error=loss[0],
        n_opt_covered=n[1],
        loss_covered=loss[1],
    )
