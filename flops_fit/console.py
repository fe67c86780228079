"""What a command prints: JSON or tables to stdout, progress to stderr."""

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flops_fit.quantities import format_count, format_flops

if TYPE_CHECKING:  # numpy would double the time of `flops-fit --help`
    from flops_fit.records import SweepPlan
    from flops_fit.store import Store

SHOWN_REJECTIONS = 12


def print_plan(plan: "SweepPlan") -> None:
    """Prints the grid and what was left out of it."""
    print_table(
        ("budget", plan.size_param, "N", plan.data_unit, "D/N", "steps", "batch", "learning rate"),
        [
            (
                format_flops(e.compute_budget), str(e.size_param_value), format_count(e.num_params),
                format_count(e.num_tokens), f"{e.tokens_per_param:.3g}", str(e.num_steps),
                str(e.recipe.batch_tokens), f"{e.recipe.learning_rate:.2e}",
            )
            for e in plan.experiments
        ],
    )  # fmt: skip
    print(f"\n{len(plan.rejected)} (size, budget) pairs rejected:")
    for rejection in plan.rejected[:SHOWN_REJECTIONS]:
        at = "" if rejection.compute_budget is None else f" at {format_flops(rejection.compute_budget)}"
        print(f"  {plan.size_param}={rejection.size_param_value}{at}: {rejection.reason}")
    if len(plan.rejected) > SHOWN_REJECTIONS:
        print(f"  ... and {len(plan.rejected) - SHOWN_REJECTIONS} more (--json lists all)")
    print(f"\n{plan!r}, FLOPs counted as {plan.flops_convention}")


def print_pending(store: "Store", *, retry_failed: bool) -> None:
    """Prints the runs that `flops-fit train` would train."""
    for e in store.pending(retry_failed=retry_failed):
        size = f"{store.plan.size_param}={e.size_param_value}"
        print(f"{e.experiment_id}  C={format_flops(e.compute_budget)}  {size}")


def sweep_status(store: "Store") -> dict[str, Any]:
    """Counts a sweep's runs by outcome and lists those that did not complete."""
    results = store.results()
    counts: dict[str, Any] = {
        name: sum(r.status == name for r in results) for name in ("completed", "diverged", "failed")
    }
    counts["pending"] = store.plan.num_experiments - len(results)
    counts["total"] = store.plan.num_experiments
    counts["problems"] = [
        {"experiment_id": r.experiment.experiment_id, "status": r.status, "reason": _last_line(r.reason)}
        for r in results
        if r.status != "completed"
    ]
    return counts


def print_json(value: Any) -> None:
    """Prints one JSON object; NaN is refused."""
    print(json.dumps(value, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints right-aligned columns."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say(message: str) -> None:
    """Writes a message for people, to stderr."""
    print(message, file=sys.stderr, flush=True)


def fail(message: str, code: int) -> None:
    """Says what went wrong, once for all ranks, and ends the process with ``code``."""
    if is_main_process():
        say(f"error: {message}")
    raise SystemExit(code)


def is_main_process() -> bool:
    """Whether this process speaks for all; read from RANK, so that torch need not be imported."""
    return os.environ.get("RANK", "0") == "0"


def _last_line(text: str | None) -> str:
    return (text or "").strip().rsplit("\n", 1)[-1]
