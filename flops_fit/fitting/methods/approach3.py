"""Approach 3: the law E + A/N^alpha + B/D^beta on all runs, or on those near each budget's optimum.

"approach3" is Hoffmann et al. 2022 section 3.3 with the global optimum; "windowed" takes only runs whose loss
is within 10% of their budget's best and weights them by C^0.25. Far from the optimum real runs bend away from
the law: on Porian et al.'s runs a surface through all points misses N_opt one budget ahead by 1.8 to 10
times, the windowed one by 1.1 (research/fitting.md section 3).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.inputs.log_runs import LogRuns, near_optimum
from flops_fit.fitting.methods.chinchilla.fit import bounds_of, fit_parametric, make_problem
from flops_fit.fitting.methods.method import FitInputs
from flops_fit.fitting.methods.optimum import parametric_optimum
from flops_fit.fitting.methods.result import LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import resample_weights
from flops_fit.fitting.uncertainty.spread import Spread, interval_of, spread_of_replicates
from flops_fit.records import FloatArray

MIN_RUNS = 6
"""Five parameters need at least one more run."""
NAMES = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True, kw_only=True, eq=False)
class ParametricMethod:
    """The fitted law; row 0 of ``theta`` is the point fit, the others its resamples."""

    law: LawFit
    theta: FloatArray
    """(ln E, a, b, alpha, beta) for centred logs, shape (1 + R, 5)."""
    centre: tuple[float, float]
    log_runs: LogRuns

    def optimum(self, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """Log: ln N_opt and ln loss there, at ln C of shape (m,)."""
        log_n, log_loss = parametric_optimum(self.theta, self.centre, self.log_runs.flops, log_compute)
        return spread_of_replicates(log_n, level), spread_of_replicates(log_loss, level)

    def log_loss_at(self, log_n: FloatArray, log_d: FloatArray, level: float) -> Spread | None:
        """Log: ln loss at any (N, D), shape (m,)."""
        return spread_of_replicates(parametric_log_loss(self.theta, self.centre, log_n, log_d), level)


def fit_approach3(inputs: FitInputs) -> ParametricMethod | LawFit:
    """Fits the law to all runs."""
    count = inputs.num_resamples
    return fit_chinchilla("approach3", inputs.log_runs, inputs.options, inputs.rng, count=count, windowed=False)


def fit_windowed(inputs: FitInputs) -> ParametricMethod | LawFit:
    """Fits the law to the runs near each budget's optimum."""
    count = inputs.num_resamples
    return fit_chinchilla("windowed", inputs.log_runs, inputs.options, inputs.rng, count=count, windowed=True)


def fit_chinchilla(
    name: str, log_runs: LogRuns, options: FitOptions, rng: np.random.Generator, *, count: int, windowed: bool
) -> ParametricMethod | LawFit:
    """Fits the law and its resamples; a refused law states why it was not fitted."""
    base = near_optimum_weights(log_runs, options) if windowed else np.ones(len(log_runs))
    used = base > 0
    doubt = _refusal(log_runs, used)
    if doubt:
        return refused_law(name, doubt, int(used.sum()))
    columns = (log_runs.log_n[used], log_runs.log_d[used], log_runs.log_loss[used])
    problem = make_problem(*columns, options.objective, options.huber_delta)
    weights = base[used] * log_runs.weight[used]
    point = fit_parametric(problem, weights[None], keep=5, tolerance=1e-13)
    drawn = resample_weights(log_runs, count, rng)[:, used] * base[used]
    enough = (drawn > 0).sum(axis=1) >= MIN_RUNS
    drawn = drawn[enough] if enough.any() else weights[None]
    resampled = fit_parametric(problem, drawn, keep=3, tolerance=1e-7)
    theta = np.concatenate([point.theta, resampled.theta])
    law = describe_parametric(name, theta, problem.centre, log_runs, options.level)
    low, high = bounds_of(problem)
    at_bound = [n for n, t, lo, hi in zip(NAMES, theta[0], low, high, strict=True) if not lo < t < hi]
    if at_bound:
        law = replace(law, outcome="at_bound", reason=f"at the bound of its range: {', '.join(at_bound)}")
    elif not point.converged[0]:
        law = replace(law, outcome="not_converged", reason="Newton's method had not converged at its last step")
    law = replace(law, num_runs=int(used.sum()), objective=float(point.objective[0]))
    return ParametricMethod(law=law, theta=theta, centre=problem.centre, log_runs=log_runs)


def near_optimum_weights(log_runs: LogRuns, options: FitOptions) -> FloatArray:
    """Weights: zero for runs more than 10% above their budget's best, else (C / mean C)^0.25; both are settings."""
    near = near_optimum(log_runs, options.near_optimum)
    mean = float(log_runs.log_c[near].mean())
    return np.asarray(near * np.exp(options.compute_weight * (log_runs.log_c - mean)))


def parametric_log_loss(
    theta: FloatArray, centre: tuple[float, float], log_n: FloatArray, log_d: FloatArray
) -> FloatArray:
    """Log: ln L for every row of theta (R, 5) at log_n, log_d of shape (m,) or (R, m); shape (R, m)."""
    t2 = np.exp(theta[:, 1:2] - theta[:, 3:4] * (log_n - centre[0]))
    t3 = np.exp(theta[:, 2:3] - theta[:, 4:5] * (log_d - centre[1]))
    return np.asarray(np.log(np.exp(theta[:, :1]) + t2 + t3))


def _refusal(log_runs: LogRuns, used: NDArray[np.bool_]) -> str | None:
    if used.sum() < MIN_RUNS:
        return f"{used.sum()} runs for 5 parameters; at least {MIN_RUNS} are needed."
    for name, column in (("N", log_runs.log_n), ("D", log_runs.log_d)):
        if np.ptp(column[used]) < 1e-3:
            return f"{name} is the same in all runs, so its term cannot be separated from E."
    one_left = len(np.unique(log_runs.budget[used])) < 2 and log_runs.num_budgets > 1
    return "all runs near an optimum belong to one budget." if one_left else None


def describe_parametric(
    name: str, theta: FloatArray, centre: tuple[float, float], log_runs: LogRuns, level: float
) -> LawFit:
    """Parameters in natural units and exponents at the middle budget; row 0 of theta is the point fit."""
    log_e, log_a, log_b, alpha, beta = theta.T
    natural = np.exp(log_e), np.exp(log_a + alpha * centre[0]), np.exp(log_b + beta * centre[1]), alpha, beta
    log_c = log_runs.log_c_middle + np.array([-0.5, 0.5])
    log_n, _ = parametric_optimum(theta, centre, log_runs.flops, log_c)
    a = log_n[:, 1] - log_n[:, 0]
    return LawFit(
        name=name,
        outcome="converged",
        reason="the global minimum, from a grid over (alpha, beta) refined by Newton's method",
        parameters={key: interval_of(values, level) for key, values in zip(NAMES, natural, strict=True)},
        a=interval_of(a, level),
        b=interval_of(1 - a * log_runs.flops.slope(log_n.mean(axis=1)), level),
        num_runs=len(log_runs),
    )
