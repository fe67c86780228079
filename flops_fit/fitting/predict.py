"""What a prediction consists of: estimates from spreads, findings about its target, and what its intervals include."""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.methods.registry import STACK, method_title
from flops_fit.fitting.prediction import Estimate
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.quantities import format_count, format_factor, format_flops
from flops_fit.records import Finding, FloatArray

FAR = 10.0
"""Beyond this many times the tested factor an extrapolation is a warning, not an info."""
COVERAGE = Path(__file__).with_name("measured_coverage.json")
"""Written by `tests/benchmarks/fitting.py table`."""
DEFAULT_LAW = "extended"
LEADING_CODES = ("below_sweep", "extrapolation", "methods_disagree")
"""Findings about a target outside what was fitted and tested, or where the methods are far apart; they lead the
verdict."""
APART = 2.0
"""Methods whose N_opt differ by more than this factor at the target are far apart."""
USELESS = 100.0
"""An N_opt interval whose ends differ by more than this factor is no answer."""


def ends_of(spread: Spread) -> FloatArray:
    """Log: a value of shape (1,), then the ends of its whole, its statistical and its form interval, shape (7,)."""
    return np.concatenate([spread.value, *spread.ends, *spread.statistical_ends, *spread.form_ends])


def estimate_of(ends: FloatArray) -> Estimate:
    """The estimate in natural units, of what `ends_of` returns or of a monotone function of it."""
    value, *natural = np.exp(ends).tolist()
    whole, statistical, form = ((min(pair), max(pair)) for pair in zip(natural[::2], natural[1::2], strict=True))
    return Estimate(value=value, interval=whole, statistical_interval=statistical, form_interval=form)


def interval_basis(law: str, weights: Mapping[str, float], level: float, num_trials: int) -> str:
    """What the intervals of a law, or of a stack with these weights, include and how they were tested."""
    form = f"{num_trials} backtests on these runs and on published sweeps" if num_trials else "published sweeps alone"
    shares = ", ".join(f"{method_title(name)} {w:.0%}" for name, w in weights.items())
    mixed = f"; {shares}, and what they differ by" if len(weights) > 1 else ""
    return (
        f"nominal {level:.0%}; statistical error and model-form error, the latter learned from {form}{mixed}; "
        f"{measured_coverage(law)}"
    )


@functools.cache
def measured_coverage(law: str) -> str:
    """What was measured of the default's 90% intervals: on held-out budgets of published sweeps, then on simulated."""
    if law not in (STACK, DEFAULT_LAW):
        return "the coverage of this law alone was not measured"
    found = json.loads(COVERAGE.read_text(encoding="utf-8"))
    real, worlds = found["real"], found["worlds"]
    return (
        f"at 90% they held N_opt in {real['n_opt']:.0%} and the loss in {real['loss']:.0%} of {real['cases']} held-out "
        f"budgets of published sweeps, and N_opt in {worlds['n_opt_mean']:.0%} of simulated sweeps in "
        f"{worlds['count']} worlds ({worlds['n_opt_worst']:.0%} in the worst, {worlds['worst_world']})"
    )


def diagnose_range(compute: float, smallest: float, largest: float, tested: float) -> Iterator[Finding]:
    """Yields the finding about C below the sweep, or farther above it than the factor that backtests tested."""
    here = f"{format_flops(compute)} FLOPs is"
    if compute < smallest:
        message = f"{here} {format_factor(smallest / compute)} below the smallest fitted budget "
        message += f"({format_flops(smallest)}), where nothing tested the law."
        advice = "Add budgets around the target, or train there: such runs are cheaper than the sweep."
        yield Finding(level="warning", code="below_sweep", message=message, advice=advice)
    elif compute > largest * tested:
        reached = f"backtests tested up to {format_factor(tested)}"
        message = f"{here} {format_factor(compute / largest)} the largest fitted budget ({format_flops(largest)}); "
        message += f"{reached if tested > 1 else 'no backtest tested any extrapolation'}."
        advice = "The interval grows with the distance. A run nearer to the target shrinks it most."
        far = compute > FAR * largest * tested
        yield Finding(level="warning" if far else "info", code="extrapolation", message=message, advice=advice)


def diagnose_size(size: Spread, rivals: Mapping[str, Spread], flops: FlopsFunction) -> Iterator[Finding]:
    """Yields findings about ln N_opt at one budget, by the answer and by each method to compare, of shape (1,)."""
    sizes = {name: float(np.exp(spread.value[0])) for name, spread in rivals.items()}
    least, most = min(sizes.values(), default=1.0), max(sizes.values(), default=1.0)
    if most > APART * least:
        listed = ", ".join(f"{method_title(name)} {format_count(n)}" for name, n in sizes.items())
        message = f"Here the methods disagree on N_opt by {format_factor(most / least)}, from {format_count(least)} to "
        message += f"{format_count(most)}: {listed}."
        advice = "Take the whole range as possible, or add a budget nearer to the target."
        yield Finding(level="warning", code="methods_disagree", message=message, advice=advice)
    width = float(np.exp(size.high[0] - size.low[0]))
    if width > USELESS:
        message = f"The interval of N_opt spans {format_factor(width)}: these runs do not determine the optimum there."
        advice = "Add budgets nearer to the target, and sizes on both sides of each minimum."
        yield Finding(level="error", code="no_useful_interval", message=message, advice=advice)
    log_n, first, last = float(size.value[0]), float(flops.log_n[0]), float(flops.log_n[-1])
    if not flops.is_constant and not first <= log_n <= last:
        message = f"FLOPs per token were counted for N from {np.exp(first):.3g} to {np.exp(last):.3g}; at "
        message += f"{np.exp(log_n):.3g} their ratio to 6N is extrapolated."
        advice = "Count the FLOPs of the target model and compare."
        yield Finding(level="info", code="flops_extrapolated", message=message, advice=advice)
