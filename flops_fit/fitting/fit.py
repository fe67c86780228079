"""One call that turns a table of runs into laws, their test, and what to doubt."""

import numpy as np

from flops_fit.errors import FitError
from flops_fit.fitting.choice import choose
from flops_fit.fitting.columns import keep_best_learning_rate, make_columns
from flops_fit.fitting.diagnostics import find_doubts
from flops_fit.fitting.methods import Methods, fit_methods
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.outcomes import LawFit
from flops_fit.fitting.rollout import fit_hidden, observed_minima, trials_of
from flops_fit.fitting.rollout_table import rollout_rows
from flops_fit.fitting.scaling_laws import ScalingLaws
from flops_fit.records import RunTable

LAW_ORDER = ("approach1", "approach2", "akima", "approach3", "windowed", "extended")


def fit(runs: RunTable, *, options: FitOptions | None = None) -> ScalingLaws:
    """Fits every method to a table of runs and tests each on the largest budgets.

    Args:
        runs: Finished runs; their planned budgets are taken as they are.
        options: Settings of every method.

    Raises:
        FitError: If there is nothing to fit: fewer than four runs.
    """
    options = options or FitOptions()
    if len(runs) < 4:
        raise FitError(f"got {len(runs)} finished runs, expected at least 4 at three budgets. Train more runs.")
    if options.learning_rates == "best":
        runs = keep_best_learning_rate(runs)
    columns = make_columns(runs)
    methods = fit_methods(columns, options, count=options.num_bootstraps)
    hidden = fit_hidden(columns, options)
    observed = observed_minima(methods.curves, options.level)
    top = columns.num_budgets
    trials = tuple(
        trial
        for depth, found in hidden.items()
        if depth <= options.max_hidden_budgets
        for trial in trials_of(depth, found, observed, top, options.level)
    )
    choice = choose(trials, tuple(methods.fitted), options)
    rows = rollout_rows(columns, hidden, observed, trials, options)
    laws = _laws(methods)
    recommended = choice.law
    return ScalingLaws(
        runs=runs,
        runs_excluded=runs.excluded,
        recommended=recommended,
        reason=choice.reason,
        laws=laws,
        isoflop_curves=methods.curves,
        findings=(*runs.notes, *find_doubts(runs, methods, choice, rows)),
        rollouts=rows,
        options=options,
        flops=columns.flops,
        choice=choice,
        methods=methods.fitted,
        trials=trials,
        max_compute=float(np.exp(columns.log_c_top)),
    )


def _laws(methods: Methods) -> dict[str, LawFit]:
    found = {name: method.law for name, method in methods.fitted.items()} | methods.refused
    return {name: found[name] for name in LAW_ORDER if name in found}
