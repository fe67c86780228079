"""The backtest table: every method, the default, and the two baselines against each held-out budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.backtest.form_error import REACH_OFFSET, form_uncertainty, widen_law
from flops_fit.fitting.backtest.trials import (
    Observed,
    Trial,
    fit_hidden,
    log_n_at_ratio,
    log_n_at_slope_half,
    observed_minima,
    trials_of,
)
from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.registry import Methods
from flops_fit.fitting.methods.result import BacktestRow, LawFit
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import normal_quantile

Recommend = Callable[[tuple[Trial, ...], Mapping[str, LawFit]], str | None]
"""The name of the law to use, by the backtests of every method and the laws fitted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Backtest:
    """Every trial of every method, and the rows for people."""

    trials: tuple[Trial, ...]
    rows: tuple[BacktestRow, ...]


def run_backtest(methods: Methods, options: FitOptions, recommend: Recommend) -> Backtest:
    """Holds out the top budgets one after another and tests what the rest predicts.

    Args:
        methods: Fitted to all runs.
        options: How many budgets are held out, and the level.
        recommend: Chooses the law of a "default" row from what was known without the budgets held out.
    """
    log_runs = methods.log_runs
    observed = observed_minima(methods.curves, options.level)
    hidden = fit_hidden(log_runs, observed, options)
    depths = [d for d in hidden if d <= options.max_hidden_budgets]
    trials = tuple(
        trial
        for depth in depths
        for trial in trials_of(depth, hidden[depth], log_runs, observed, log_runs.num_budgets, options.level)
    )
    quantile = normal_quantile(options.level)
    rows = [_row(t, t.law, quantile, 0.0, 0.0) for t in trials]
    for depth in depths:
        rows += _default_rows(log_runs, hidden, observed, trials, depth, options, recommend)
        rows += _baseline_rows(hidden[depth].log_runs, observed, log_runs.num_budgets, depth)
    return Backtest(trials=trials, rows=tuple(sorted(rows, key=lambda r: (r.hidden, r.compute_budget))))


def _default_rows(
    log_runs: LogRuns,
    hidden: dict[int, Methods],
    observed: dict[int, Observed],
    trials: tuple[Trial, ...],
    depth: int,
    options: FitOptions,
    recommend: Recommend,
) -> list[BacktestRow]:
    """What the default would have predicted with ``depth`` budgets held out."""
    top = hidden[depth].log_runs.num_budgets
    inner = tuple(
        trial
        for deeper, found in hidden.items()
        if depth < deeper <= depth + options.max_hidden_budgets
        for trial in trials_of(deeper, found, log_runs, observed, top, options.level)
    )
    law = recommend(inner, hidden[depth].with_laws(lambda law: widen_law(law, inner, options)).fitted_laws)
    n_form, loss_form, _ = form_uncertainty([t for t in inner if t.law == law], options)
    quantile = normal_quantile(options.level)
    return [_row(t, "default", quantile, n_form, loss_form) for t in trials if t.hidden == depth and t.law == law]


def _row(trial: Trial, law: str, quantile: float, n_form: float, loss_form: float) -> BacktestRow:
    distance = trial.reach + REACH_OFFSET
    return BacktestRow(
        hidden=trial.hidden,
        compute_budget=trial.compute,
        law=law,
        log_n_opt_error=trial.n_error,
        log_loss_error=trial.loss_error,
        n_opt_covered=None
        if trial.n_error is None
        else abs(trial.n_error) <= quantile * float(np.hypot(trial.n_sd, n_form * distance)),
        loss_covered=abs(trial.loss_error) <= quantile * float(np.hypot(trial.loss_sd, loss_form * distance)),
    )


def _baseline_rows(log_runs: LogRuns, observed: dict[int, Observed], num_budgets: int, depth: int) -> list[BacktestRow]:
    seen = log_runs.num_budgets
    rows = []
    for index in range(seen, num_budgets):
        if index not in observed:
            continue
        target = observed[index]
        log_c = float(np.log(target.compute))
        guesses = {
            "ratio20": log_n_at_ratio(log_runs.flops, log_c),
            "slope_half": log_n_at_slope_half(observed, seen, log_c),
        }
        rows += [
            BacktestRow(
                hidden=depth,
                compute_budget=target.compute,
                law=name,
                log_n_opt_error=guess - target.log_n,
                log_loss_error=None,
                n_opt_covered=None,
                loss_covered=None,
            )
            for name, guess in guesses.items()
            if guess is not None
        ]
    return rows
