"""Do the fitted laws agree with each other, with the hidden budgets, and with what the runs can tell?"""

from collections.abc import Iterator

import numpy as np

from flops_fit.fitting.methods.approach3 import ParametricMethod
from flops_fit.fitting.methods.chinchilla.fit import make_problem, parametric_information
from flops_fit.fitting.methods.registry import Methods, compared_methods
from flops_fit.fitting.recommendation import default_law
from flops_fit.fitting.scaling_laws import ScalingLaws
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
        yield Finding(
            level="error",
            code="no_law",
            message=f"No method gives a number: {'; '.join(f'{k}: {v.reason}' for k, v in laws.laws.items())}",
            advice="Train sizes on both sides of the minimum at five budgets or more.",
        )
        return
    for name, law in laws.laws.items():
        if law.outcome in ("at_bound", "not_converged"):
            yield Finding(
                level="warning" if name == laws.recommended else "info",
                code="parameter_at_bound" if law.outcome == "at_bound" else "not_converged",
                message=f"{name}: {law.reason}.",
                advice="These runs do not pin this parameter down; do not quote it.",
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
            instead = "" if name == laws.recommended else f"; {laws.recommended} is shown instead"
            yield Finding(
                level="error",
                code="exponent_unknown",
                message=(
                    f"By the {name} law, a in N_opt ~ C^a is known to [{law.a.low:.3g}, {law.a.high:.3g}] only, as "
                    f"good as not at all{instead}."
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
                f"These runs hardly tell the five parameters apart: alpha and beta correlate by {alpha_beta:+.3f}, the "
                f"condition number is {condition:.1e}."
            ),
            advice="Vary D/N more at each budget; until then trust N_opt(C), not the single parameters.",
        )


def _disagreement(laws: ScalingLaws) -> Iterator[Finding]:
    target = np.array([np.log(TARGET * laws.max_compute)])
    said = {
        name: float(np.exp(laws.methods[name].optimum(target, laws.options.level)[0].value[0]))
        for name in compared_methods()
        if name in laws.methods
    }
    if len(said) >= 2 and max(said.values()) > DISAGREEMENT * min(said.values()):
        listed = ", ".join(f"{name} {value:.3g}" for name, value in said.items())
        yield Finding(
            level="warning",
            code="methods_disagree",
            message=(
                f"At {TARGET:g} times the largest budget the methods put N_opt at {listed}: a factor of "
                f"{max(said.values()) / min(said.values()):.3g} apart."
            ),
            advice="Look at the backtests for which to trust, and add a budget before spending on the largest.",
        )


def _backtest(laws: ScalingLaws) -> Iterator[Finding]:
    own = [t for t in laws.trials if t.law == laws.recommended]
    if not own:
        yield Finding(
            level="warning",
            code="no_backtest",
            message="Too few budgets to hide any, so the answer is untested; a stated floor widens its intervals.",
            advice="Five budgets or more let the smaller ones predict the larger.",
        )
        return
    z_loss = float(np.sqrt(np.mean([(t.loss_error / t.loss_sd) ** 2 for t in own])))
    sized = [t.n_error / t.n_sd for t in own if t.n_error is not None]
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
                    f"Hidden budgets' {what} was missed by {z:.1f} standard errors (root mean square over "
                    f"{len(own)} backtests)."
                ),
                advice=f"The interval of {what} is widened by a form part of {added:.3g} per decade for it.",
            )
    yield from _baselines(laws)


def _baselines(laws: ScalingLaws) -> Iterator[Finding]:
    def median(law: str) -> float | None:
        errors = [abs(r.log_n_opt_error) for r in laws.backtest if r.law == law and r.log_n_opt_error is not None]
        return float(np.median(errors)) if errors else None

    own = median("default")
    for law, words in (("ratio20", "D/N = 20"), ("slope_half", "a line of slope 1/2")):
        baseline = median(law)
        if own is not None and baseline is not None and baseline < WORSE_SHARE * own:
            yield Finding(
                level="info",
                code="baseline_as_good",
                message=(
                    f"In the backtests {words} missed N_opt by {baseline:.2f} in ln (median), the default law by "
                    f"{own:.2f}."
                ),
                advice="Both stand beside each other in the backtest table.",
            )
