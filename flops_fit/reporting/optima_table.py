"""Table of the optimal model at each budget, as markdown for people and as rows for the report."""

import math
from collections.abc import Sequence

from flops_fit.fitting import Prediction, ScalingLaws
from flops_fit.fitting.trust import Trust
from flops_fit.quantities import format_count, format_factor, format_flops, format_loss, format_number, format_percent
from flops_fit.records import Finding
from flops_fit.reporting.formatting import format_estimate

HEADER = ("Compute Budget", "Optimal N", "Optimal D", "D/N Ratio", "Predicted Loss")
UNTESTED, UNUSABLE = "*", "!"
ROWS = 9
REACH = 100.0
"""Default tables end at this many times the largest fitted budget."""


def chinchilla_table(laws: ScalingLaws, compute_budgets: Sequence[float] | None = None) -> str:
    """Writes whether to use the answer, and a markdown table of optimal N, D, D/N and loss with their intervals.

    Args:
        laws: A fit.
        compute_budgets: C in FLOPs; None takes round numbers from the smallest fitted to 100 times the largest.
    """
    verdict = _verdict(laws.trust)
    if laws.recommended is None:
        return verdict
    predictions = predict_rows(laws, compute_budgets)
    lines = [_line(HEADER), "|" + "|".join(" ---: " for _ in HEADER) + "|"]
    lines += [_line(table_row(laws, p)) for p in predictions]
    note = f"In brackets: {format_percent(predictions[0].level)} intervals." if predictions else "No budgets."
    if laws.trust.level == "no":
        verdict += "\n\nFor reference only, the fit gives:"
    return "\n".join([verdict, "", *lines, "", " ".join([note, *table_notes(laws, predictions)])])


def _verdict(trust: Trust) -> str:
    """The headline, with the message of every finding behind it."""
    reasons = [f"- `{f.code}`: {f.message} {f.advice}" for f in trust.reasons]
    return "\n".join([f"**{trust.headline}**", *(["", *reasons] if reasons else [])])


def predict_rows(laws: ScalingLaws, compute_budgets: Sequence[float] | None = None) -> tuple[Prediction, ...]:
    """Predictions of the recommended law at each budget of the table."""
    budgets = default_budgets(laws) if compute_budgets is None else compute_budgets
    return tuple(laws.predict(float(c)) for c in budgets)


def table_row(laws: ScalingLaws, prediction: Prediction) -> tuple[str, ...]:
    """The cells of one row; a budget beyond the backtests carries a mark."""
    marks = ["" if laws.is_tested(prediction.compute) else UNTESTED, UNUSABLE if _errors(prediction) else ""]
    return (
        " ".join([format_flops(prediction.compute), *filter(None, marks)]),
        format_estimate(prediction.num_params_estimate, format_count),
        format_estimate(prediction.num_tokens_estimate, format_count),
        format_estimate(prediction.tokens_per_param_estimate, format_number),
        format_estimate(prediction.loss_estimate, format_loss),
    )


def table_notes(laws: ScalingLaws, predictions: Sequence[Prediction]) -> list[str]:
    """What the marks in these rows mean."""
    notes = [] if all(laws.is_tested(p.compute) for p in predictions) else [_beyond_note(laws)]
    first = next((p for p in predictions if _errors(p)), None)
    if first is not None:
        notes.append(f"{UNUSABLE} Do not use; at {format_flops(first.compute)} FLOPs: {_errors(first)[0].message}")
    return notes


def _errors(prediction: Prediction) -> list[Finding]:
    return [f for f in prediction.findings if f.level == "error"]


def _beyond_note(laws: ScalingLaws) -> str:
    factor = laws.tested_factor
    if factor <= 1.0:
        return f"{UNTESTED} Extrapolation that no backtest tested."
    top = format_flops(factor * laws.max_compute)
    return (
        f"{UNTESTED} Beyond the reach of the backtests: {top} FLOPs, {format_factor(factor)} the largest fitted budget."
    )


def default_budgets(laws: ScalingLaws) -> tuple[float, ...]:
    """About nine round budgets from the smallest fitted one to 100 times the largest."""
    lowest = min(float(laws.runs.compute_budget.min()), laws.max_compute)
    grids = [round_numbers(lowest, REACH * laws.max_compute, digits) for digits in ((1,), (1, 3), (1, 2, 5))]
    return min(grids, key=lambda grid: abs(len(grid) - ROWS))


def round_numbers(low: float, high: float, digits: Sequence[int]) -> tuple[float, ...]:
    """The numbers digit * 10^k from ``low`` to ``high``, ascending."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    numbers = (float(f"{digit}e{power}") for power in powers for digit in digits)
    # A tolerance of 0.001, because budgets are floats that went through logs.
    return tuple(x for x in numbers if 0.999 * low <= x <= 1.001 * high)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
