"""Parameter counts: how the answer depends on what is counted as a parameter.

The same runs, three counts: all parameters; without embeddings, on the FLOPs as recorded; and Kaplan's, without
embeddings and with C = 6 N D of that N. Porian et al. 2024 (arXiv:2406.19146) trace most of the gap between
Kaplan's exponent .88 and Chinchilla's .5 to this and to the head's FLOPs.
"""

from dataclasses import dataclass, replace

import numpy as np

from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.methods.approach3 import fit_chinchilla
from flops_fit.fitting.methods.result import LawFit
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.spread import exp_interval
from flops_fit.records import Interval, RunTable

RESAMPLES = 100


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """The windowed parametric law under one way of counting."""

    name: str
    """"total", "non_embedding" or "kaplan"."""
    a: Interval
    """Exponent of N_opt ~ C^a."""
    num_params_at_top: Interval
    """N_opt at the largest budget, in this count."""
    compute_at_top: float
    """That budget, in this count's FLOPs."""


def compare_parameter_counts(runs: RunTable, options: FitOptions) -> tuple[ParameterCount, ...]:
    """Refits under each count; one row alone where the table has no count without embeddings."""
    tables = {"total": runs}
    bare = runs.num_params_non_embedding
    if bare is not None and np.all(np.isfinite(bare)) and np.all(bare > 0):
        tables["non_embedding"] = replace(runs, num_params=bare)
        tables["kaplan"] = replace(runs, num_params=bare, compute=6.0 * bare * runs.num_tokens)
    found = [_count(name, table, options) for name, table in tables.items()]
    return tuple(c for c in found if c is not None)


def _count(name: str, runs: RunTable, options: FitOptions) -> ParameterCount | None:
    log_runs, rng = make_log_runs(runs), np.random.default_rng(options.seed)
    count = min(options.num_bootstraps, RESAMPLES)
    method = fit_chinchilla("windowed", log_runs, options, rng, count=count, windowed=True)
    if isinstance(method, LawFit) or method.law.a is None:
        return None
    log_c = np.array([log_runs.log_c[log_runs.budget == log_runs.num_budgets - 1].mean()])
    (log_n,) = method.optimum(log_c, options.level)[0].intervals(options.level)
    top = float(np.exp(log_c[0]))
    return ParameterCount(name=name, a=method.law.a, num_params_at_top=exp_interval(log_n), compute_at_top=top)
