"""What are repeated tokens worth? L = E + A/N^alpha + B/D'^beta with D' = U + U R (1 - exp(-(D/U - 1)/R)).

U are the unique tokens and R says after how many repeats they are spent. Fitted where runs saw their data more
than once: a grid over R, the joint law's global search at each, for all resamples at once.

Source: Muennighoff et al. 2023 (arXiv:2305.16264) eq. 5. Their second constant, R_N for excess parameters, is
left at infinity: on their own 182 runs the two are one flat valley, (15, 5) and (95, 1.7) fit equally
(research/fitting.md section 1).
"""

from dataclasses import dataclass, replace

import numpy as np

from flops_fit.fitting.inputs.log_runs import LogRuns, make_log_runs
from flops_fit.fitting.methods.approach3 import ParametricMethod, describe_parametric, parametric_log_loss
from flops_fit.fitting.methods.chinchilla.fit import fit_parametric, make_problem
from flops_fit.fitting.methods.result import LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import resample_weights
from flops_fit.fitting.uncertainty.spread import Spread, interval_of
from flops_fit.records import FloatArray, RunTable

CONSTANTS = np.geomspace(0.5, 300.0, 28)
MIN_REPEATED = 4
REPEATED = 1.05
MAX_RESAMPLES = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class DataConstrainedMethod:
    """The fitted law; fresh tokens enter the joint law as they are."""

    law: LawFit
    joint: ParametricMethod
    repeat_constant: FloatArray
    """R, shape (1 + resamples,); row 0 is the point fit."""

    def optimum(self, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """Log: ln N_opt and ln loss there with all tokens fresh."""
        return self.joint.optimum(log_compute, level)

    def log_loss_at(self, log_n: FloatArray, log_d: FloatArray, level: float) -> Spread | None:
        """Log: ln loss at any (N, D), all tokens fresh."""
        return self.joint.log_loss_at(log_n, log_d, level)

    def best_with_unique_tokens(self, compute: float, unique_tokens: float) -> tuple[float, float, float]:
        """(N, D, loss) that is best on C FLOPs when only ``unique_tokens`` exist, repeats allowed."""
        log_c = np.log(compute)
        joint = self.joint
        middle = float(joint.optimum(np.array([log_c]), 0.9)[0].value[0])
        log_n = middle + np.linspace(-8.0, 8.0, 16001)
        tokens = np.exp(joint.log_runs.flops.log_tokens(np.asarray(log_c), log_n))
        worth = effective_tokens(tokens, np.asarray(unique_tokens), float(self.repeat_constant[0]))
        loss = parametric_log_loss(joint.theta[:1], joint.centre, log_n, np.log(worth))[0]
        best = int(np.argmin(loss))
        return float(np.exp(log_n[best])), float(tokens[best]), float(np.exp(loss[best]))


def effective_tokens(num_tokens: FloatArray, unique_tokens: FloatArray, repeat_constant: float) -> FloatArray:
    """D' of the module's formula; D itself where nothing was repeated."""
    unique = np.minimum(unique_tokens, num_tokens)
    repeats = num_tokens / unique - 1
    return np.asarray(unique * (1 - repeat_constant * np.expm1(-repeats / repeat_constant)))


def has_repeats(runs: RunTable) -> bool:
    """Whether enough runs saw data more than once for R to mean something."""
    return int((_epochs(runs) > REPEATED).sum()) >= MIN_REPEATED


def fit_data_constrained(runs: RunTable, options: FitOptions) -> DataConstrainedMethod | LawFit:
    """Fits R and the joint law together to runs of which some repeat their data."""
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
) -> DataConstrainedMethod:
    law = describe_parametric("data_constrained", theta, centre, log_runs, options.level)
    at_end = constant[0] in (CONSTANTS[0], CONSTANTS[-1])
    law = replace(
        law,
        parameters={**law.parameters, "R": interval_of(constant, options.level)},
        outcome="at_bound" if at_end else "converged",
        reason="R is at the end of its range: these runs do not say it" if at_end else "the best R of a grid",
        objective=objective,
    )
    joint = ParametricMethod(law=law, theta=theta, centre=centre, log_runs=log_runs)
    return DataConstrainedMethod(law=law, joint=joint, repeat_constant=constant)


def _epochs(runs: RunTable) -> FloatArray:
    """Tokens over unique tokens of each run; 1 where neither is known."""
    epochs = np.ones(len(runs))
    if runs.unique_tokens is not None:
        epochs = runs.num_tokens / runs.unique_tokens
    elif runs.epochs is not None:
        epochs = np.asarray(runs.epochs, dtype=np.float64)
    return np.where(np.isfinite(epochs), epochs, 1.0)
