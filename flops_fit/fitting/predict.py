"""Predictions made from a size and a loss with their spreads, with findings of their own."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.methods.registry import STACK, method_title
from flops_fit.fitting.prediction import Baseline, Estimate, Prediction
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.quantities import format_count, format_factor, format_flops
from flops_fit.records import Finding

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


def make_prediction(
    *,
    law: str,
    weights: Mapping[str, float],
    compute: float,
    level: float,
    min_compute: float,
    max_compute: float,
    tested_factor: float,
    size: Spread,
    loss: Spread,
    exponent: float,
    rivals: Mapping[str, Spread],
    flops: FlopsFunction,
    baseline_log_n: float,
    baseline_log_loss: float | None,
    num_trials: int,
) -> Prediction:
    """Turns logs into natural units; tokens follow from the size on the same budget.

    Args:
        law: Name of the method, or of the stack.
        weights: Weight of each method in N_opt.
        compute: C, FLOPs.
        level: Of the intervals.
        min_compute: Smallest budget that was fitted.
        max_compute: Largest budget that was fitted.
        tested_factor: Largest extrapolation that the backtests tested; 1 if none.
        size: ln N_opt, of shape (1,).
        loss: ln loss there, of shape (1,).
        exponent: d ln N_opt / d ln C there.
        rivals: ln N_opt there by the methods to compare, each of shape (1,).
        flops: FLOPs per token.
        baseline_log_n: ln N of the rule D/N = 20.
        baseline_log_loss: What the law expects there; None where it has no L(N, D).
        num_trials: Backtests behind the model-form part.
    """
    log_c = float(np.log(compute))

    def log_d(log_n: float) -> float:
        return float(flops.log_tokens(np.asarray(log_c), np.asarray(log_n)))

    ends = _ends(size)
    return Prediction(
        compute=compute,
        law=law,
        weights=weights,
        level=level,
        extrapolation_factor=compute / max_compute,
        num_params_estimate=_estimate(ends),
        num_tokens_estimate=_estimate([tuple(log_d(v) for v in part) for part in ends]),
        tokens_per_param_estimate=_estimate([tuple(log_d(v) - v for v in part) for part in ends]),
        loss_estimate=_estimate(_ends(loss)),
        exponent=exponent,
        baseline=Baseline(
            num_params=float(np.exp(baseline_log_n)),
            num_tokens=float(np.exp(log_d(baseline_log_n))),
            loss=None if baseline_log_loss is None else float(np.exp(baseline_log_loss)),
        ),
        interval_basis=_basis(law, weights, level, num_trials),
        findings=(
            *_about_range(compute, min_compute, max_compute, tested_factor),
            *_about_rivals(rivals),
            *_about_width(size),
            *_about_flops(flops, float(size.value[0])),
        ),
    )


def _basis(law: str, weights: Mapping[str, float], level: float, num_trials: int) -> str:
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


def _about_range(compute: float, smallest: float, largest: float, tested: float) -> tuple[Finding, ...]:
    """The finding about a budget below the sweep, or farther above it than any backtest tested."""
    if compute < smallest:
        return (
            Finding(
                level="warning",
                code="below_sweep",
                message=(
                    f"{format_flops(compute)} FLOPs is {format_factor(smallest / compute)} below the smallest fitted "
                    f"budget ({format_flops(smallest)}), where nothing tested the law."
                ),
                advice="Add budgets around the target, or train there: such runs are cheaper than the sweep.",
            ),
        )
    if compute <= largest * tested:
        return ()
    reached = (
        f"backtests tested up to {format_factor(tested)}" if tested > 1 else "no backtest tested any extrapolation"
    )
    return (
        Finding(
            level="warning" if compute > FAR * largest * tested else "info",
            code="extrapolation",
            message=(
                f"{format_flops(compute)} FLOPs is {format_factor(compute / largest)} the largest fitted budget "
                f"({format_flops(largest)}); {reached}."
            ),
            advice="The interval grows with the distance. A run nearer to the target shrinks it most.",
        ),
    )


def _about_flops(flops: FlopsFunction, log_n: float) -> tuple[Finding, ...]:
    if flops.is_constant or float(flops.log_n[0]) <= log_n <= float(flops.log_n[-1]):
        return ()
    return (
        Finding(
            level="info",
            code="flops_extrapolated",
            message=(
                f"FLOPs per token were counted for N from {np.exp(flops.log_n[0]):.3g} to "
                f"{np.exp(flops.log_n[-1]):.3g}; at {np.exp(log_n):.3g} their ratio to 6N is extrapolated."
            ),
            advice="Count the FLOPs of the target model and compare.",
        ),
    )


def _about_rivals(rivals: Mapping[str, Spread]) -> tuple[Finding, ...]:
    """The finding that the methods' N_opt are far apart at this budget."""
    sizes = {name: float(np.exp(spread.value[0])) for name, spread in rivals.items()}
    if len(sizes) < 2 or max(sizes.values()) <= APART * min(sizes.values()):
        return ()
    listed = ", ".join(f"{method_title(name)} {format_count(size)}" for name, size in sizes.items())
    return (
        Finding(
            level="warning",
            code="methods_disagree",
            message=(
                f"Here the methods disagree on N_opt by {format_factor(max(sizes.values()) / min(sizes.values()))}, "
                f"from {format_count(min(sizes.values()))} to {format_count(max(sizes.values()))}: {listed}."
            ),
            advice="Take the whole range as possible, or add a budget nearer to the target.",
        ),
    )


def _about_width(size: Spread) -> tuple[Finding, ...]:
    factor = float(np.exp(size.high[0] - size.low[0]))
    if factor <= USELESS:
        return ()
    return (
        Finding(
            level="error",
            code="no_useful_interval",
            message=(
                f"The interval of N_opt spans {format_factor(factor)}: these runs do not determine the optimum there."
            ),
            advice="Add budgets nearer to the target, and sizes on both sides of each minimum.",
        ),
    )


def _ends(spread: Spread) -> list[tuple[float, ...]]:
    """(value,), and (low, high) of the whole, the statistical and the form interval, in logs."""
    parts = (spread.ends, spread.statistical_ends, spread.form_ends)
    return [(float(spread.value[0]),), *((float(low[0]), float(high[0])) for low, high in parts)]


def _estimate(parts: list[tuple[float, ...]]) -> Estimate:
    natural = [tuple(float(np.exp(v)) for v in part) for part in parts]
    return Estimate(
        value=natural[0][0],
        interval=(min(natural[1]), max(natural[1])),
        statistical_interval=(min(natural[2]), max(natural[2])),
        form_interval=(min(natural[3]), max(natural[3])),
    )
