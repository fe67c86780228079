"""Every method on one set of runs, each a fitted method or a refused law with its reason."""

from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.approach1 import fit_approach1
from flops_fit.fitting.methods.approach2 import MIN_BUDGETS, fit_approach2
from flops_fit.fitting.methods.approach3 import fit_approach3
from flops_fit.fitting.methods.extended.law import fit_extended_law
from flops_fit.fitting.methods.result import FittedMethod, IsoflopCurve, LawFit, refused_law
from flops_fit.fitting.options import FitOptions

NAMES = ("approach1", "approach2", "akima", "approach3", "windowed", "extended")


@dataclass(frozen=True, kw_only=True, eq=False)
class Methods:
    """All methods fitted to the same runs."""

    log_runs: LogRuns
    curves: tuple[IsoflopCurve, ...]
    fitted: dict[str, FittedMethod]
    """Methods that give numbers, by name."""
    refused: dict[str, LawFit]


def fit_methods(log_runs: LogRuns, options: FitOptions, *, count: int) -> Methods:
    """Fits all methods.

    Args:
        log_runs: The runs.
        options: Settings; ``options.seed`` decides the resamples.
        count: Resamples of each bootstrap.
    """
    rng = np.random.default_rng(options.seed)
    curves, minima = fit_approach2(log_runs, options, rng, count=count)
    outcomes: dict[str, FittedMethod | LawFit] = dict(minima)
    if log_runs.num_budgets < MIN_BUDGETS:
        reason = f"{log_runs.num_budgets} budgets; no exponent is taken from fewer than {MIN_BUDGETS}."
        outcomes = {name: refused_law(name, reason, len(log_runs)) for name in NAMES}
    else:
        outcomes["approach1"] = fit_approach1(log_runs, options, rng, count=count)
        outcomes["approach3"] = fit_approach3("approach3", log_runs, options, rng, count=count, windowed=False)
        outcomes["windowed"] = fit_approach3("windowed", log_runs, options, rng, count=count, windowed=True)
        outcomes["extended"] = fit_extended_law(log_runs, options)
    return Methods(
        log_runs=log_runs,
        curves=curves,
        fitted={name: m for name, m in outcomes.items() if not isinstance(m, LawFit)},
        refused={name: m for name, m in outcomes.items() if isinstance(m, LawFit)},
    )
