"""The data-constrained law: L = E + A/N^alpha + B/D'^beta with D' the effective tokens of repeated data.

It is Approach 3 on all runs, those with many epochs included, with the worth of a repeat (R in `inputs/repeats.py`)
fitted too: the global search at each R of a grid, for all resamples at once. The R of its point fit is what all other
laws take.

Source: Muennighoff et al. 2023 (arXiv:2305.16264) eq. 5. Their second constant, R_N for excess parameters, is
left at infinity: on their own 182 runs the two are one flat valley, (15, 5) and (95, 1.7) fit equally
(research/fitting.md section 1). That is why ln R has a prior.
"""

from dataclasses import replace

import numpy as np

from flops_fit.fitting.inputs.condense import condense
from flops_fit.fitting.inputs.log_runs import LogRuns, make_log_runs
from flops_fit.fitting.inputs.repeats import REPEAT_CONSTANT, effective_tokens, epochs_of
from flops_fit.fitting.methods.approach3 import ParametricMethod, describe_parametric, parametric_log_loss
from flops_fit.fitting.methods.chinchilla.fit import ParametricFits, fit_parametric, make_problem
from flops_fit.fitting.methods.method import FitInputs, NotApplicable
from flops_fit.fitting.methods.result import LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import resample_weights
from flops_fit.fitting.uncertainty.spread import interval_of
from flops_fit.records import FloatArray, RunTable

PRIOR_SD = 0.7
"""Of ln R around Muennighoff et al.'s 15.4."""
CONSTANTS = REPEAT_CONSTANT * np.exp(PRIOR_SD * np.linspace(-3, 3, 19))
MIN_REPEATED = 4
REPEATED = 1.05
"""Epochs above which a run counts as one that repeats its data."""
MIN_RUNS = 7
MAX_RESAMPLES = 100


def value_repeats(log_runs: LogRuns, all_runs: RunTable, options: FitOptions) -> LogRuns:
    """Returns the runs with D' by the R that all runs together support, and with what repeats cost in loss."""
    everything = condense(make_log_runs(all_runs))
    if len(everything) < MIN_RUNS or not (log_runs.epochs > REPEATED).any():
        return log_runs
    enough = (everything.epochs > REPEATED).sum() >= MIN_REPEATED
    constants = CONSTANTS[::3] if enough else np.array([REPEAT_CONSTANT])
    fits, constant, centre = _fit(everything, options, everything.weight[None], constants)
    log_d = log_runs.log_d - _log_worth(log_runs)
    worth = log_d + _log_worth(log_runs, constant[0])
    repeated, fresh = (parametric_log_loss(fits.theta, centre, log_runs.log_n, column)[0] for column in (worth, log_d))
    return replace(log_runs, log_d=worth, fresh_log_loss=log_runs.log_loss - repeated + fresh)


def fit_repeated_data(inputs: FitInputs) -> ParametricMethod | LawFit | NotApplicable:
    """Fits the law where enough of all runs repeat their data."""
    if inputs.all_runs is None:
        return NotApplicable(reason="it takes all runs, and only some are given")
    repeated = int((epochs_of(inputs.all_runs) > REPEATED).sum())
    if repeated < MIN_REPEATED:
        reason = f"{repeated} runs saw data more than once; the worth of a repeat needs {MIN_REPEATED} such runs"
        return NotApplicable(reason=reason)
    return fit_data_constrained(inputs.all_runs, inputs.options)


def fit_data_constrained(runs: RunTable, options: FitOptions) -> ParametricMethod | LawFit:
    """Fits R together with the parametric law to runs of which some repeat their data."""
    log_runs = condense(make_log_runs(runs))
    if len(log_runs) < MIN_RUNS:
        return refused_law("data_constrained", f"{len(log_runs)} runs for 6 parameters.", len(log_runs))
    rng = np.random.default_rng(options.seed)
    drawn = resample_weights(log_runs, min(options.num_bootstraps, MAX_RESAMPLES), rng)
    fits, constant, centre = _fit(log_runs, options, np.concatenate([log_runs.weight[None], drawn]), CONSTANTS)
    at_end = constant[0] in (CONSTANTS[0], CONSTANTS[-1])
    law = describe_parametric("data_constrained", fits.theta, centre, log_runs, options.level)
    law = replace(
        law,
        parameters={**law.parameters, "R": interval_of(constant, options.level)},
        outcome="at_bound" if at_end else "converged",
        reason="R is at the end of its range: these runs do not constrain it" if at_end else "the best R of a grid",
        objective=float(fits.objective[0]),
    )
    return ParametricMethod(law=law, theta=fits.theta, centre=centre, log_runs=log_runs)


def _fit(
    log_runs: LogRuns, options: FitOptions, weights: FloatArray, constants: FloatArray
) -> tuple[ParametricFits, FloatArray, tuple[float, float]]:
    """The law and R of every row of weights, R by its posterior mode, and what the logs were centred on."""
    log_d = log_runs.log_d - _log_worth(log_runs)
    centre = (float(log_runs.log_n.mean()), float(log_d.mean()))
    found, score = [], []
    for constant in constants:
        worth = log_d + _log_worth(log_runs, constant)
        problem = make_problem(log_runs.log_n, worth, log_runs.log_loss, options.objective, options.huber_delta)
        fits = fit_parametric(problem, weights, keep=2, tolerance=1e-9)
        # One centre for all constants, so that their rows can be mixed.
        fits.theta[:, 2] += fits.theta[:, 4] * (problem.centre[1] - centre[1])
        found.append(fits)
        # -2 ln posterior: Huber's objective is nearly a sum of absolute residuals, and Laplace's scale is their mean.
        likelihood = (2 if options.objective == "huber_log" else 1) * len(log_runs) * np.log(fits.objective + 1e-12)
        score.append(likelihood + (np.log(constant / REPEAT_CONSTANT) / PRIOR_SD) ** 2)
    best, rows = np.argmin(np.stack(score), axis=0), np.arange(len(weights))
    chosen = ParametricFits(*(np.stack(column)[best, rows] for column in zip(*found, strict=True)))
    return chosen, constants[best], centre


def _log_worth(log_runs: LogRuns, constant: float = REPEAT_CONSTANT) -> FloatArray:
    """Log: ln D'/D by an R; that of `make_log_runs` unless another is given."""
    return np.asarray(np.log(effective_tokens(log_runs.epochs, np.ones(len(log_runs)), constant) / log_runs.epochs))
