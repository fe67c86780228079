"""Which model is optimal at which budget, as a table?"""

import math
from collections.abc import Sequence

from flops_fit.fitting import Prediction, ScalingLaws
from flops_fit.quantities import format_count, format_flops
from flops_fit.records import Finding
from flops_fit.reporting.wording import format_estimate, format_factor, format_loss, format_number

HEADER = ("Compute Budget", "Optimal N", "Optimal D", "D/N Ratio", "Predicted Loss")
MARK, USELESS = "*", "!"
ROWS = 9
REACH = 100.0
"""Default tables end at this many times the largest fitted budget."""


def chinchilla_table(laws: ScalingLaws, compute_budgets: Sequence[float] | None = None) -> str:
    """Writes a markdown table of optimal N, D, D/N and loss, each with its interval.

    Args:
        laws: A fit.
        compute_budgets: C in FLOPs; None takes round numbers from the smallest fitted to 100 times the largest.
    """
    if laws.recommended is None:
        return f"No table: these runs support no prediction ({laws.reason})."
    predictions = predict_rows(laws, compute_budgets)
    lines = [_line(HEADER), "|" + "|".join(" ---: " for _ in HEADER) + "|"]
    lines += [_line(table_row(laws, p)) for p in predictions]
    note = f"In brackets: {predictions[0].level:.0%} intervals." if predictions else "No budgets."
    return "\n".join([*lines, "", " ".join([note, *table_notes(laws, predictions)])])


def predict_rows(laws: ScalingLaws, compute_budgets: Sequence[float] | None = None) -> tuple[Prediction, ...]:
    """Predictions of the recommended law at each budget of the table."""
    budgets = default_budgets(laws) if compute_budgets is None else compute_budgets
    return tuple(laws.predict(float(c)) for c in budgets)


def table_row(laws: ScalingLaws, prediction: Prediction) -> tuple[str, ...]:
    """The cells of one row; a budget beyond the backtests carries a mark."""
    marks = ["" if laws.is_tested(prediction.compute) else MARK, USELESS if _errors(prediction) else ""]
    return (
        " ".join([format_flops(prediction.compute), *filter(None, marks)]),
        format_estimate(prediction.num_params_estimate, format_count),
        format_estimate(prediction.num_tokens_estimate, format_count),
        format_estimate(prediction.tokens_per_param_estimate, format_number),
        format_estimate(prediction.loss_estimate, format_loss),
    )


def table_notes(laws: ScalingLaws, predictions: Sequence[Prediction]) -> list[str]:
    """Says what the marks in these rows mean."""
    notes = [] if all(laws.is_tested(p.compute) for p in predictions) else [_beyond_note(laws)]
    first = next((p for p in predictions if _errors(p)), None)
    if first is not None:
        notes.append(f"{USELESS} Not to be used; at {format_flops(first.compute)} FLOPs: {_errors(first)[0].message}")
    return notes


def _errors(prediction: Prediction) -> list[Finding]:
    return [f for f in prediction.findings if f.level == "error"]


def _beyond_note(laws: ScalingLaws) -> str:
    factor = laws.tested_factor
    if factor <= 1.0:
        return f"{MARK} Extrapolation that no backtest could test."
    top = format_flops(factor * laws.max_compute)
    return f"{MARK} Farther than the backtests tested: {top} FLOPs, {format_factor(factor)} the largest fitted budget."


def default_budgets(laws: ScalingLaws) -> tuple[float, ...]:
    """About nine round budgets from the smallest fitted one to 100 times the largest."""
    lowest = min(float(laws.runs.compute_budget.min()), laws.max_compute)
    grids = [round_numbers(lowest, REACH * laws.max_compute, digits) for digits in ((1,), (1, 3), (1, 2, 5))]
    return min(grids, key=lambda grid: abs(len(grid) - ROWS))


def round_numbers(low: float, high: float, digits: Sequence[int]) -> tuple[float, ...]:
    """The numbers digit * 10^k from ``low`` to ``high``, ascending."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    numbers = (float(f"{digit}e{power}") for power in powers for digit in digits)
    # A thousandth, because budgets are floats that went through logs.
    return tuple(x for x in numbers if 0.999 * low <= x <= 1.001 * high)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
