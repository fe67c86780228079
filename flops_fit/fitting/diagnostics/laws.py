"""Findings about the laws: bounds, separability, disagreement, and backtests."""

from collections.abc import Iterator

import numpy as np

from flops_fit.fitting.backtest.recommendation import default_law
from flops_fit.fitting.methods.approach3 import ParametricMethod
from flops_fit.fitting.methods.chinchilla.fit import make_problem, parametric_information
from flops_fit.fitting.methods.registry import Methods, method_phrase, method_title, stacked_methods
from flops_fit.fitting.scaling_laws import ScalingLaws
from flops_fit.quantities import format_count
from flops_fit.records import Finding

TARGET = 10.0
"""Methods are compared at this many times the largest budget."""
DISAGREEMENT = 1.25
MAX_CORRELATION = 0.98
MAX_CONDITION = 2e4
"""Of the scaled information matrix. Published IsoFLOP sweeps have 600 to 4000, D = 20 N in every run 1e10."""
MISSED = 2.0


def diagnose_laws(laws: ScalingLaws, methods: Methods) -> Iterator[Finding]:
    """Yields findings about bounds, separability, disagreement and backtests."""
    if laws.recommended is None:
        reasons = "; ".join(f"{method_title(name)}: {law.reason.rstrip('.')}" for name, law in laws.laws.items())
        message = f"No method could be fitted: {reasons}."
        advice = "Train sizes on both sides of the minimum at five budgets or more."
        yield Finding(level="error", code="no_law", message=message, advice=advice)
        return
    for name, law in laws.laws.items():
        if law.outcome in ("at_bound", "not_converged"):
            yield Finding(
                level="warning" if name == laws.recommended else "info",
                code="parameter_at_bound" if law.outcome == "at_bound" else "not_converged",
                message=f"{method_title(name)}: {law.reason}.",
                advice="These runs do not constrain this parameter; do not quote it.",
            )
    yield from _exponent(laws)
    yield from _separability(methods)
    yield from _disagreement(laws)
    yield from _backtest(laws)


def _exponent(laws: ScalingLaws) -> Iterator[Finding]:
    first = default_law(laws.methods) if laws.options.law is None else None
    for name in dict.fromkeys(name for name in (laws.recommended, first) if name is not None):
        law = laws.laws[name]
        if law.a is not None and not law.knows_exponent:
            message = f"{method_title(name)}: the exponent a in N_opt ~ C^a is essentially unconstrained "
            message += f"({law.a.level:.0%} CI [{law.a.low:.3g}, {law.a.high:.3g}])"
            if name != laws.recommended:
                message += ", so predictions come from another method that does constrain it"
            advice = "Add budgets, sizes on both sides of each minimum, or seeds: the noise hides the optimum."
            yield Finding(level="error", code="exponent_unknown", message=f"{message}.", advice=advice)


def _separability(methods: Methods) -> Iterator[Finding]:
    method = methods.fitted.get("approach3")
    if not isinstance(method, ParametricMethod):
        return
    log_runs = methods.log_runs
    problem = make_problem(log_runs.log_n, log_runs.log_d, log_runs.log_loss, "squared_log", 1.0)
    information = parametric_information(problem, log_runs.weight[None], method.theta[:1])[0]
    condition = float(np.linalg.cond(information))
    covariance = np.linalg.pinv(information)
    alpha_beta = float(covariance[3, 4] / np.sqrt(covariance[3, 3] * covariance[4, 4]))
    if abs(alpha_beta) > MAX_CORRELATION or condition > MAX_CONDITION:
        message = "These runs hardly separate the five parameters: alpha and beta correlate at "
        message += f"{alpha_beta:+.3f}, and the condition number is {condition:.1e}."
        advice = "Vary D/N more at each budget; until then trust N_opt(C), not the single parameters."
        yield Finding(level="warning", code="exponents_not_separable", message=message, advice=advice)


def _disagreement(laws: ScalingLaws) -> Iterator[Finding]:
    target = np.array([np.log(TARGET * laws.max_compute)])
    members = [name for name in stacked_methods() if name in laws.methods]
    n_opt = {n: float(np.exp(laws.methods[n].optimum(target, laws.options.level)[0].value[0])) for n in members}
    apart = max(n_opt.values(), default=1.0) / min(n_opt.values(), default=1.0)
    if apart > DISAGREEMENT:
        listed = ", ".join(f"{method_title(name)} {format_count(value)}" for name, value in n_opt.items())
        message = f"At {TARGET:g}x the largest budget the methods disagree on N_opt by {apart:.3g}x: {listed}."
        advice = "See in the backtests which to trust, and add a budget before spending on the largest."
        yield Finding(level="warning", code="methods_disagree", message=message, advice=advice)


def _backtest(laws: ScalingLaws) -> Iterator[Finding]:
    own = [t for t in laws.trials if t.law == laws.recommended]
    if not own:
        message = "Too few budgets to hold any out, so the answer is untested; published sweeps alone widen it."
        advice = "With five budgets or more the smaller ones can predict the larger."
        yield Finding(level="warning", code="no_backtest", message=message, advice=advice)
        return
    form = laws.recommendation
    sizes, losses = [t.n for t in own if t.n is not None], [t.loss for t in own]
    for what, scores, added in (("N_opt", sizes, form.n_form_sd), ("loss", losses, form.loss_form_sd)):
        z = float(np.sqrt(np.mean([(s.error / s.total_sd) ** 2 for s in scores]))) if scores else 0.0
        if z > MISSED:
            message = f"On held-out budgets the RMS error in {what} was {z:.1f} standard errors ({len(own)} backtests)."
            advice = f"The model-form part of the interval of {what} is widened by {added:.3g} per decade."
            yield Finding(level="warning", code="backtest_missed", message=message, advice=advice)
    yield from _baselines(laws)


def _baselines(laws: ScalingLaws) -> Iterator[Finding]:
    errors: dict[str, list[float]] = {}
    for row in laws.backtest:
        if row.log_n_opt_error is not None:
            errors.setdefault(row.law, []).append(abs(row.log_n_opt_error))
    median = {law: float(np.median(found)) for law, found in errors.items()}
    for law in ("ratio20", "slope_half"):
        if "default" in median and median.get(law, np.inf) < median["default"]:
            message = f"On held-out budgets the median error in ln N_opt was {median[law]:.2f} for "
            message += f"{method_phrase(law)} and {median['default']:.2f} for {method_phrase('default')}."
            advice = "The backtest table compares them."
            yield Finding(level="info", code="baseline_as_good", message=message, advice=advice)
