"""The roll-out table: every method, the default, and the two baselines against each hidden budget."""

from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.choice import REACH_OFFSET, choose
from flops_fit.fitting.columns import Columns
from flops_fit.fitting.methods import Methods
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.outcomes import RolloutRow
from flops_fit.fitting.rollout import (
    Observed,
    Trial,
    fit_hidden,
    log_n_at_ratio,
    log_n_at_slope_half,
    observed_minima,
    trials_of,
)
from flops_fit.fitting.uncertainty.resampling import normal_quantile


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollouts:
    """Every trial of every method, and the rows for people."""

    trials: tuple[Trial, ...]
    rows: tuple[RolloutRow, ...]


def roll_out(methods: Methods, options: FitOptions) -> Rollouts:
    """Hides the top budgets one after another and tests what the rest predicts.

    A "default" row chooses and widens by what it could see itself: nothing that was hidden from it.
    """
    columns = methods.columns
    observed = observed_minima(methods.curves, options.level)
    hidden = fit_hidden(columns, observed, options)
    depths = [d for d in hidden if d <= options.max_hidden_budgets]
    trials = tuple(
        trial
        for depth in depths
        for trial in trials_of(depth, hidden[depth], columns, observed, columns.num_budgets, options.level)
    )
    quantile = normal_quantile(options.level)
    rows = [_row(t, t.law, quantile, 0.0, 0.0) for t in trials]
    for depth in depths:
        rows += _default_rows(columns, hidden, observed, trials, depth, options)
        rows += _baseline_rows(hidden[depth].columns, observed, columns.num_budgets, depth)
    return Rollouts(trials=trials, rows=tuple(sorted(rows, key=lambda r: (r.hidden, r.compute_budget))))


def _default_rows(
    columns: Columns,
    hidden: dict[int, Methods],
    observed: dict[int, Observed],
    trials: tuple[Trial, ...],
    depth: int,
    options: FitOptions,
) -> list[RolloutRow]:
    """What the default would have said with ``depth`` budgets unseen."""
    top = hidden[depth].columns.num_budgets
    inner = tuple(
        trial
        for deeper, found in hidden.items()
        if depth < deeper <= depth + options.max_hidden_budgets
        for trial in trials_of(deeper, found, columns, observed, top, options.level)
    )
    choice = choose(inner, {name: method.law for name, method in hidden[depth].fitted.items()}, options)
    quantile = normal_quantile(options.level)
    return [
        _row(t, "default", quantile, choice.n_form_sd, choice.loss_form_sd)
        for t in trials
        if t.hidden == depth and t.law == choice.law
    ]


def _row(trial: Trial, law: str, quantile: float, n_form: float, loss_form: float) -> RolloutRow:
    distance = trial.reach + REACH_OFFSET
    return RolloutRow(
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


def _baseline_rows(columns: Columns, observed: dict[int, Observed], num_budgets: int, depth: int) -> list[RolloutRow]:
    seen = columns.num_budgets
    rows = []
    for index in range(seen, num_budgets):
        if index not in observed:
            continue
        target = observed[index]
        log_c = float(np.log(target.compute))
        guesses = {
            "ratio20": log_n_at_ratio(columns.flops, log_c),
            "slope_half": log_n_at_slope_half(observed, seen, log_c),
        }
        rows += [
            RolloutRow(
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
