"""The fit: one call from a table of runs to laws, their backtests, and findings."""

from collections import Counter
from dataclasses import replace

from flops_fit.errors import FitError
from flops_fit.fitting.backtest.form_error import widen_law
from flops_fit.fitting.backtest.recommendation import recommend
from flops_fit.fitting.backtest.stack import Stack, make_stack
from flops_fit.fitting.backtest.table import run_backtest
from flops_fit.fitting.diagnostics import diagnose
from flops_fit.fitting.inputs.condense import condense
from flops_fit.fitting.inputs.exclusions import Selection, select_for_fit
from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.methods.data_constrained import value_repeats
from flops_fit.fitting.methods.registry import check_law, fit_methods, not_fitted
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.outliers import find_outliers
from flops_fit.fitting.parameter_counts import compare_parameter_counts
from flops_fit.fitting.scaling_laws import ScalingLaws
from flops_fit.records import RunTable

MIN_RUNS = 4
DEFAULT = FitOptions()


def fit(runs: RunTable, *, options: FitOptions = DEFAULT) -> ScalingLaws:
    """Fits every method to a table of runs and tests each on the largest budgets.

    Args:
        runs: Finished runs; their planned budgets are taken as they are.
        options: Settings of every method.

    Raises:
        ConfigError: If ``options.law`` names no method.
        FitError: If there are fewer than four runs, or the law that ``options.law`` asks for was not fitted.
    """
    check_law(options.law)
    if len(runs) == 0:
        raise _too_few(runs, runs)
    selection = _without_outliers(select_for_fit(runs, options), options)
    used = selection.runs
    if len(used) < MIN_RUNS:
        raise _too_few(used, runs)
    log_runs = value_repeats(condense(make_log_runs(used)), selection.before, options)
    methods = fit_methods(log_runs, options, count=options.num_bootstraps, all_runs=selection.before)
    if options.law is not None and options.law not in methods.fitted:
        raise not_fitted(options.law, methods.reasons_not_fitted[options.law], methods.fitted)
    backtest = run_backtest(methods, options)
    stack = make_stack(methods, backtest.trials, options)
    recommendation = recommend(backtest.trials, stack, options)
    result = ScalingLaws(
        runs=used,
        runs_excluded=used.excluded,
        recommended=recommendation.law,
        reason=recommendation.reason,
        laws={name: stack.laws.get(name, law) for name, law in methods.laws.items()},
        isoflop_curves=methods.curves,
        findings=(),
        backtest=backtest.rows,
        options=options,
        flops=log_runs.flops,
        recommendation=recommendation,
        stack=stack,
        reasons_not_fitted=methods.reasons_not_fitted,
        trials=backtest.trials,
        min_compute=float(log_runs.budgets[0]),
        max_compute=float(log_runs.budgets[-1]),
        parameter_counts=compare_parameter_counts(used, options) if len(used) == len(log_runs) else (),
        laws_without_exclusions=_laws_without_exclusions(selection, stack, options),
    )
    return replace(result, findings=(*used.notes, *diagnose(result, methods)))


def _too_few(used: RunTable, runs: RunTable) -> FitError:
    reasons = Counter(e.reason.strip().splitlines()[-1] for e in used.excluded)
    left_out = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common(3))
    return FitError(
        f"got {len(used)} usable of {len(runs)} finished runs, expected at least {MIN_RUNS}, at three budgets or more"
        f"{f' (left out: {left_out})' if left_out else ''}. Train more runs, or fix those."
    )


def _without_outliers(selection: Selection, options: FitOptions) -> Selection:
    runs = selection.runs
    log_runs = make_log_runs(runs) if len(runs) >= MIN_RUNS else None
    if not options.exclude_outliers or log_runs is None or len(condense(log_runs)) < len(log_runs):
        return selection
    keep = ~find_outliers(log_runs, options)
    reason = (
        f"its loss is more than {options.outlier_threshold:g} robust standard deviations off the law, and its "
        "neighbours' are not"
    )
    return replace(selection, runs=runs.take(keep, code="outlier", reason=reason))


def _laws_without_exclusions(selection: Selection, stack: Stack, options: FitOptions) -> dict[str, LawFit]:
    """The laws with outliers and repeated data left in; empty where none was left out."""
    if len(selection.before) == len(selection.runs):
        return {}
    count = max(50, options.num_bootstraps // 4)
    log_runs = value_repeats(condense(make_log_runs(selection.before)), selection.before, options)
    laws = fit_methods(log_runs, options, count=count).laws
    forms = stack.forms
    return {n: widen_law(law, forms[n], options.level) if n in forms else law for n, law in laws.items()}
