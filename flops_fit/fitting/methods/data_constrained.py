"""The data-constrained law: L = E + A/N^alpha + B/D'^beta with D' = U + U R (1 - exp(-(D/U - 1)/R)).

U are the unique tokens; R is the number of repeats after which more are worth little. It is fitted where runs saw
their data more than once: a grid over R, the parametric fit's global search at each, for all resamples at once.

Source: Muennighoff et al. 2023 (arXiv:2305.16264) eq. 5. Their second constant, R_N for excess parameters, is
left at infinity: on their own 182 runs the two are one flat valley, (15, 5) and (95, 1.7) fit equally
(research/fitting.md section 1).
"""

from dataclasses import replace

import numpy as np

from flops_fit.fitting.inputs.log_runs import LogRuns, make_log_runs
from flops_fit.fitting.methods.approach3 import ParametricMethod, describe_parametric
from flops_fit.fitting.methods.chinchilla.fit import fit_parametric, make_problem
from flops_fit.fitting.methods.method import FitInputs, NotApplicable
from flops_fit.fitting.methods.result import LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import resample_weights
from flops_fit.fitting.uncertainty.spread import interval_of
from flops_fit.records import FloatArray, RunTable

CONSTANTS = np.geomspace(0.5, 300.0, 28)
MIN_REPEATED = 4
REPEATED = 1.05
MAX_RESAMPLES = 100


def effective_tokens(num_tokens: FloatArray, unique_tokens: FloatArray, repeat_constant: float) -> FloatArray:
    """D' of the module's formula; D itself where nothing was repeated."""
    unique = np.minimum(unique_tokens, num_tokens)
    repeats = num_tokens / unique - 1
    return np.asarray(unique * (1 - repeat_constant * np.expm1(-repeats / repeat_constant)))


def fit_repeated_data(inputs: FitInputs) -> ParametricMethod | LawFit | NotApplicable:
    """Fits the law to all runs, those with many epochs included, where enough of them repeat their data."""
    if inputs.all_runs is None:
        return NotApplicable(reason="it takes all runs, and only some are given")
    repeated = int((_epochs(inputs.all_runs) > REPEATED).sum())
    if repeated < MIN_REPEATED:
        return NotApplicable(
            reason=f"{repeated} runs saw data more than once; the worth of a repeat needs {MIN_REPEATED} such runs"
        )
    return fit_data_constrained(inputs.all_runs, inputs.options)


def fit_data_constrained(runs: RunTable, options: FitOptions) -> ParametricMethod | LawFit:
    """Fits R together with the parametric law to runs of which some repeat their data."""
    log_runs = make_log_runs(runs)
    if len(log_runs) < 7:
        return refused_law("data_constrained", f"{len(log_runs)} runs for 6 parameters.", len(log_runs))
    rng = np.random.default_rng(options.seed)
    count = min(options.num_bootstraps, MAX_RESAMPLES)
    weights = np.concatenate([log_runs.weight[None], resample_weights(log_runs, count, rng)])
    unique = runs.num_tokens / np.maximum(_epochs(runs), 1.0)
    centre_d = float(log_runs.log_d.mean())
    theta, objective = [], []
    for constant in CONSTANTS:
        log_worth = np.log(effective_tokens(runs.num_tokens, unique, float(constant)))
        problem = make_problem(log_runs.log_n, log_worth, log_runs.log_loss, options.objective, options.huber_delta)
        found = fit_parametric(problem, weights, keep=2, tolerance=1e-9)
        # One centre for all constants, so that their rows can be mixed.
        found.theta[:, 2] += found.theta[:, 4] * (problem.centre[1] - centre_d)
        theta.append(found.theta)
        objective.append(found.objective)
    best = np.argmin(np.stack(objective), axis=0)
    rows = np.arange(len(weights))
    chosen, value = np.stack(theta)[best, rows], np.stack(objective)[best, rows]
    return _method(log_runs, chosen, (problem.centre[0], centre_d), CONSTANTS[best], float(value[0]), options)


def _method(
    log_runs: LogRuns,
    theta: FloatArray,
    centre: tuple[float, float],
    constant: FloatArray,
    objective: float,
    options: FitOptions,
) -> ParametricMethod:
    law = describe_parametric("data_constrained", theta, centre, log_runs, options.level)
    at_end = constant[0] in (CONSTANTS[0], CONSTANTS[-1])
    law = replace(
        law,
        parameters={**law.parameters, "R": interval_of(constant, options.level)},
        outcome="at_bound" if at_end else "converged",
        reason="R is at the end of its range: these runs do not constrain it" if at_end else "the best R of a grid",
        objective=objective,
    )
    return ParametricMethod(law=law, theta=theta, centre=centre, log_runs=log_runs)


def _epochs(runs: RunTable) -> FloatArray:
    """Tokens over unique tokens of each run; 1 where neither is known."""
    epochs = np.ones(len(runs))
    if runs.unique_tokens is not None:
        epochs = runs.num_tokens / runs.unique_tokens
    elif runs.epochs is not None:
        epochs = np.asarray(runs.epochs, dtype=np.float64)
    return np.where(np.isfinite(epochs), epochs, 1.0)
