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
WORSE_SHARE = 1.0


def diagnose_laws(laws: ScalingLaws, methods: Methods) -> Iterator[Finding]:
    """Yields findings about bounds, separability, disagreement and backtests."""
    if laws.recommended is None:
        reasons = "; ".join(f"{method_title(name)}: {law.reason.rstrip('.')}" for name, law in laws.laws.items())
        yield Finding(
            level="error",
            code="no_law",
            message=f"No method could be fitted: {reasons}.",
            advice="Train sizes on both sides of the minimum at five budgets or more.",
        )
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
            instead = (
                "" if name == laws.recommended else ", so predictions come from another method that does constrain it"
            )
            yield Finding(
                level="error",
                code="exponent_unknown",
                message=(
                    f"{method_title(name)}: the exponent a in N_opt ~ C^a is essentially unconstrained "
                    f"({law.a.level:.0%} CI [{law.a.low:.3g}, {law.a.high:.3g}]){instead}."
                ),
                advice="Add budgets, sizes on both sides of each minimum, or seeds: the noise hides the optimum.",
            )


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
        yield Finding(
            level="warning",
            code="exponents_not_separable",
            message=(
                f"These runs hardly separate the five parameters: alpha and beta correlate at {alpha_beta:+.3f}, and "
                f"the condition number is {condition:.1e}."
            ),
            advice="Vary D/N more at each budget; until then trust N_opt(C), not the single parameters.",
        )


def _disagreement(laws: ScalingLaws) -> Iterator[Finding]:
    target = np.array([np.log(TARGET * laws.max_compute)])
    n_opt = {
        name: float(np.exp(laws.methods[name].optimum(target, laws.options.level)[0].value[0]))
        for name in stacked_methods()
        if name in laws.methods
    }
    if len(n_opt) >= 2 and max(n_opt.values()) > DISAGREEMENT * min(n_opt.values()):
        listed = ", ".join(f"{method_title(name)} {format_count(value)}" for name, value in n_opt.items())
        yield Finding(
            level="warning",
            code="methods_disagree",
            message=(
                f"At {TARGET:g}x the largest budget the methods disagree on N_opt by "
                f"{max(n_opt.values()) / min(n_opt.values()):.3g}x: {listed}."
            ),
            advice="See in the backtests which to trust, and add a budget before spending on the largest.",
        )


def _backtest(laws: ScalingLaws) -> Iterator[Finding]:
    own = [t for t in laws.trials if t.law == laws.recommended]
    if not own:
        yield Finding(
            level="warning",
            code="no_backtest",
            message="Too few budgets to hold any out, so the answer is untested; published sweeps alone widen it.",
            advice="With five budgets or more the smaller ones can predict the larger.",
        )
        return
    z_loss = float(np.sqrt(np.mean([(t.loss.error / t.loss.total_sd) ** 2 for t in own])))
    sized = [t.n.error / t.n.total_sd for t in own if t.n is not None]
    z_size = float(np.sqrt(np.mean(np.square(sized)))) if sized else 0.0
    for what, z, added in (
        ("N_opt", z_size, laws.recommendation.n_form_sd),
        ("loss", z_loss, laws.recommendation.loss_form_sd),
    ):
        if z > MISSED:
            yield Finding(
                level="warning",
                code="backtest_missed",
                message=(
                    f"On held-out budgets the RMS error in {what} was {z:.1f} standard errors ({len(own)} backtests)."
                ),
                advice=f"The model-form part of the interval of {what} is widened by {added:.3g} per decade.",
            )
    yield from _baselines(laws)


def _baselines(laws: ScalingLaws) -> Iterator[Finding]:
    def median(law: str) -> float | None:
        errors = [abs(r.log_n_opt_error) for r in laws.backtest if r.law == law and r.log_n_opt_error is not None]
        return float(np.median(errors)) if errors else None

    own = median("default")
    for law in ("ratio20", "slope_half"):
        baseline = median(law)
        if own is not None and baseline is not None and baseline < WORSE_SHARE * own:
            yield Finding(
                level="info",
                code="baseline_as_good",
                message=(
                    f"On held-out budgets the median error in ln N_opt was {baseline:.2f} for {method_phrase(law)} and "
                    f"{own:.2f} for {method_phrase('default')}."
                ),
                advice="The backtest table compares them.",
            )
