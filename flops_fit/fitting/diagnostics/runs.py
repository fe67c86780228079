"""Findings about the runs themselves, before any law is fitted."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.inputs.repeats import epochs_of
from flops_fit.quantities import count_of
from flops_fit.records import Finding, RunTable

SIX_TOLERANCE = 0.05
BUDGET_TOLERANCE = 0.05
EPOCH_TOLERANCE = 0.1
"""Of ln epochs: between what is stated and D over unique tokens."""
WIDE_RANGE = 4.0
MIN_SPAN = 10**1.5
"""Budgets that span less hardly constrain an exponent (research/science.md section 1b, item 3)."""
SAME = 1e-3
MIN_BUDGETS = 3
POSSIBLE_FLOPS = (1e-3, 1e6)
"""Of C/(ND) where D counts tokens; sparse experts go down to 0.01. Samples have no upper bound: a small network over
video uses its weights a million times for each."""
LEAST_COMPUTE = 1e6
"""FLOPs. One token through a thousand parameters costs 6000."""


def diagnose_runs(runs: RunTable, log_runs: LogRuns) -> Iterator[Finding]:
    """Yields findings about columns that are constant, repeated, unequal or counted by another rule."""
    yield from _ranges(log_runs)
    yield from _units(runs)
    yield from _falling(log_runs)
    yield from _learning_rate(runs)
    yield from _epochs(runs)
    yield from _flops(runs, log_runs)
    yield from _excluded(runs)
    if len(log_runs) < len(runs):
        message = f"{len(runs)} runs were averaged into {len(log_runs)} cells of budget, N and D."
        advice = "Nothing to do: the fit weights each cell by its runs."
        yield Finding(level="info", code="condensed", message=message, advice=advice)


def _ranges(log_runs: LogRuns) -> Iterator[Finding]:
    advice = "Train several sizes at several budgets: a law needs both N and D to vary."
    for name, column in (("N", log_runs.log_n), ("D", log_runs.log_d)):
        if np.ptp(column) < SAME:
            message = f"{name} is the same in all {len(log_runs)} runs, so its effect on the loss is unknown."
            yield Finding(
                level="error", code="constant_n" if name == "N" else "constant_d", message=message, advice=advice
            )
    span = float(log_runs.budgets[-1] / log_runs.budgets[0])
    if log_runs.num_budgets > 1 and span < MIN_SPAN:
        message = f"The budgets span only {span:.3g}x, so the exponents are sensitive to noise."
        advice = "Add budgets until they span 1.5 decades (32x)."
        yield Finding(level="warning", code="short_span", message=message, advice=advice)


def _units(runs: RunTable) -> Iterator[Finding]:
    ratio = float(np.median(runs.compute / (runs.num_params * runs.num_tokens)))
    low, high = POSSIBLE_FLOPS
    if not low < ratio < (high if runs.data_unit == "tokens" else np.inf):
        message = f"C/(ND) is {ratio:.3g} (median), which no model has; 6 is usual."
    elif runs.compute.max() < LEAST_COMPUTE:
        message = f"The largest C is {runs.compute.max():.3g} FLOPs, less than any training."
    else:
        return
    advice = "Give C in FLOPs, N in parameters and D in tokens: no millions, no billions, no logarithms."
    yield Finding(level="error", code="implausible_units", message=message, advice=advice)


def _falling(log_runs: LogRuns) -> Iterator[Finding]:
    best = np.full(log_runs.num_budgets, np.inf)
    np.minimum.at(best, log_runs.budget, log_runs.log_loss)
    x = log_runs.log_budgets - log_runs.log_budgets.mean()
    if log_runs.num_budgets >= MIN_BUDGETS and float(x @ best) >= 0:
        message = f"The best loss does not fall with compute: {np.exp(best[0]):.4g} at the smallest budget, "
        message += f"{np.exp(best[-1]):.4g} at the largest."
        advice = "Lower must be better: accuracies cannot be fitted. If it is a loss, the recipe fails at scale."
        yield Finding(level="error", code="loss_not_falling", message=message, advice=advice)


def _learning_rate(runs: RunTable) -> Iterator[Finding]:
    if runs.learning_rate is None:
        return
    rate = runs.learning_rate[np.isfinite(runs.learning_rate)]
    spread = float(runs.num_params.max() / runs.num_params.min())
    if len(rate) and np.ptp(np.log(rate)) < SAME and spread > WIDE_RANGE:
        message = f"All runs use the learning rate {rate[0]:.3g} while N spans {spread:.0f}x."
        advice = "The best rate falls with N; a fixed one favours some sizes and bends the law. Scale it with N."
        yield Finding(level="warning", code="constant_learning_rate", message=message, advice=advice)


def _epochs(runs: RunTable) -> Iterator[Finding]:
    often = sum(e.code == "too_many_epochs" for e in runs.excluded)
    if often:
        message = f"{often} runs saw their data more than 4 times and are left out of the plain laws."
        advice = "Use more data, or the data_constrained law, which takes these runs too."
        yield Finding(level="warning", code="epochs_above_four", message=message, advice=advice)
    epochs = epochs_of(runs)
    if np.any(epochs > 1.0):
        message = f"{int(np.sum(epochs > 1.0))} runs saw some data more than once (up to {epochs.max():.1f} epochs). "
        message += "All laws count their effective tokens, and predict what fresh data would reach."
        if runs.unique_tokens is None:
            message += " Unique tokens are taken as D over the stated epochs."
        advice = "Up to 4 epochs cost little (Muennighoff et al. 2023); larger runs need more unique data."
        yield Finding(level="warning", code="repeated_data", message=message, advice=advice)
    stated = epochs if runs.epochs is None else np.asarray(runs.epochs, dtype=np.float64)
    known = np.isfinite(stated) & (stated > 0)
    unclear, reason = ~known, "have no usable number of epochs and count as fresh data"
    if runs.unique_tokens is not None:
        unclear = known & (np.abs(np.log(np.where(known, np.maximum(stated, 1.0), 1.0) / epochs)) > EPOCH_TOLERANCE)
        reason = "state other epochs than D over their unique tokens, which counts"
    if unclear.any():
        first = runs.source[int(np.argmax(unclear))]
        message = f"{count_of(int(unclear.sum()), 'run')} ({first} first): {reason}."
        advice = "Give unique_tokens for every run; repeats that are not known bend the law."
        yield Finding(level="warning", code="epochs_unclear", message=message, advice=advice)


def _flops(runs: RunTable, log_runs: LogRuns) -> Iterator[Finding]:
    ratio = runs.compute / (runs.num_params * runs.num_tokens)
    low, middle, high = (float(v) for v in np.quantile(ratio, [0.0, 0.5, 1.0]))
    if max(abs(low / 6 - 1), abs(high / 6 - 1)) > SIX_TOLERANCE:
        message = f"C/(ND) is {low:.3g} to {high:.3g} (median {middle:.3g}), not 6."
        advice = "The optimum is solved on these FLOPs. Compare with laws on 6ND only after conversion."
        yield Finding(level="info", code="flops_not_6nd", message=message, advice=advice)
    off = np.abs(log_runs.log_c - log_runs.log_budgets[log_runs.budget])
    if float(off.max()) > BUDGET_TOLERANCE:
        message = f"{int((off > BUDGET_TOLERANCE).sum())} runs spent FLOPs up to {np.expm1(off.max()):.0%} away from "
        message += "their budget."
        advice = "Approach 2 treats a budget's runs as equal in FLOPs; the parametric laws use what each run spent."
        yield Finding(level="warning", code="unequal_budget_flops", message=message, advice=advice)


def _excluded(runs: RunTable) -> Iterator[Finding]:
    reasons = Counter((e.code, e.reason) for e in runs.excluded)
    for (excluded_as, reason), count in reasons.items():
        outlier = excluded_as == "outlier"
        first = ", ".join(e.source for e in runs.excluded if e.reason == reason)[:120]
        yield Finding(
            level="warning" if outlier else "info",
            code="outliers" if outlier else "runs_excluded",
            message=f"{count_of(count, 'run')} left out ({first}): {reason}.",
            advice="Look at these runs; laws_without_exclusions holds the fit with them.",
        )
