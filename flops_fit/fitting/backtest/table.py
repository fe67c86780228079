"""The backtest table: every method, the default, and the two baselines against each held-out budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.backtest.form_error import REACH_OFFSET, FormError, form_error, widen_law
from flops_fit.fitting.backtest.stack import Stack
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


def form_errors(names: Mapping[str, object], trials: tuple[Trial, ...], options: FitOptions) -> dict[str, FormError]:
    """The model-form error of each named method, by its own trials."""
    return {name: form_error(name, [t for t in trials if t.law == name], options) for name in names}


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
    trials: list[Trial] = []
    rows: list[BacktestRow] = []
    for depth in depths:
        known = tuple(
            trial
            for deeper, found in hidden.items()
            if depth < deeper <= depth + options.max_hidden_budgets
            for trial in trials_of(deeper, found, log_runs, observed, hidden[depth].log_runs.num_budgets, options.level)
        )
        forms = form_errors(hidden[depth].fitted, known, options)
        stack = Stack(
            methods=hidden[depth].fitted,
            forms=forms,
            log_low=float(hidden[depth].log_runs.log_budgets[0]),
            log_top=hidden[depth].log_runs.log_c_top,
        )
        laws = {n: widen_law(law, forms[n], options.level) for n, law in hidden[depth].fitted_laws.items()}
        first = recommend(known, laws)
        found = trials_of(depth, hidden[depth], log_runs, observed, log_runs.num_budgets, options.level)
        trials += found
        rows += [_row(t, t.law, forms[t.law], options) for t in found]
        minima = {o.compute: o for o in observed.values()}
        rows += [
            _row(t, "default", forms[t.law], options)
            if t.n_error is None
            else _default_row(t, minima[t.compute], stack, options)
            for t in found
            if t.law == first
        ]
        rows += _baseline_rows(hidden[depth].log_runs, observed, log_runs.num_budgets, depth)
    return Backtest(trials=tuple(trials), rows=tuple(sorted(rows, key=lambda r: (r.hidden, r.compute_budget))))


def _row(trial: Trial, name: str, form: FormError, options: FitOptions) -> BacktestRow:
    """Scores one law's interval, strictly: what was observed counts as exact."""
    quantile, distance = normal_quantile(options.level), trial.reach + REACH_OFFSET
    return BacktestRow(
        hidden=trial.hidden,
        compute_budget=trial.compute,
        law=name,
        log_n_opt_error=trial.n_error,
        log_loss_error=trial.loss_error,
        n_opt_covered=None
        if trial.n_error is None
        else abs(trial.n_error) <= quantile * float(np.hypot(trial.n_sd, form.n_sd * distance)),
        loss_covered=abs(trial.loss_error) <= quantile * float(np.hypot(trial.loss_sd, form.loss_sd * distance)),
    )


def _default_row(trial: Trial, target: Observed, stack: Stack, options: FitOptions) -> BacktestRow:
    """Scores what the default would have answered, as strictly."""
    size, loss = stack.together(trial.law, np.log([trial.compute]), options.level)
    return BacktestRow(
        hidden=trial.hidden,
        compute_budget=trial.compute,
        law="default",
        log_n_opt_error=float(size.value[0] - target.log_n),
        log_loss_error=float(loss.value[0] - target.log_loss),
        n_opt_covered=bool(size.low[0] <= target.log_n <= size.high[0]),
        loss_covered=bool(loss.low[0] <= target.log_loss <= loss.high[0]),
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
