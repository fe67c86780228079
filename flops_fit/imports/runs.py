"""Which runs does a file hold? Anyone's table, read strictly.

LogRuns by letter, or by word in any case: C (compute, flops), N (params, num_params), D (tokens, num_tokens), loss;
two of C, N, D suffice, C = 6ND then. Optional: compute_budget (planned C), condition, seed, group, status,
learning_rate, epochs, schedule_tokens (D that the learning rate was decayed for), unique_tokens,
num_params_non_embedding.
Other columns are ignored. A bad row is an error that names its line.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flops_fit.errors import InputError
from flops_fit.imports.budgets import EXACT, assign_budgets
from flops_fit.imports.files import TextTable, read_numbers, read_table, shorten
from flops_fit.records import ExcludedRun, Finding, FloatArray, RunTable
from flops_fit.schema import unknown_name

ALIASES = {
    "compute": ("C", "compute", "flops"),
    "compute_budget": ("compute_budget",),
    "num_params": ("N", "params", "num_params"),
    "num_tokens": ("D", "tokens", "num_tokens"),
    "loss": ("loss",),
    "condition": ("condition",),
    "seed": ("seed",),
    "group": ("group",),
    "status": ("status",),
    "learning_rate": ("learning_rate", "lr"),
    "epochs": ("epochs",),
    "schedule_tokens": ("schedule_tokens",),
    "unique_tokens": ("unique_tokens",),
    "num_params_non_embedding": ("num_params_non_embedding", "N_no_embed"),
}
OPTIONAL = ("learning_rate", "epochs", "schedule_tokens", "unique_tokens", "num_params_non_embedding")
"""LogRuns of numbers that a fit can do without."""
COMPLETED = {"", "completed", "complete", "done", "finished", "ok", "success"}
SHOWN = 10

Bad = dict[int, str]
"""Row index -> what is wrong with it."""


def read_runs(
    path: str | Path,
    *,
    condition: str | None = None,
    max_compute: float | None = None,
    exclude_bad_rows: bool = False,
) -> RunTable:
    """Reads a table of finished runs.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file.
        condition: Which condition to take; needed where the file holds several.
        max_compute: Leave out runs above this many FLOPs.
        exclude_bad_rows: List bad rows as excluded instead of refusing the file.

    Raises:
        InputError: If the file cannot be read, lacks columns, or has bad rows; the message names lines and reasons.
    """
    table = read_table(Path(path))
    names = _resolve(table)
    unfinished = _unfinished(table, names)
    conditions = table.columns[names["condition"]] if "condition" in names else [""] * len(table.lines)
    wanted = _choose_condition(table.path, conditions, condition)
    rows = [i for i, c in enumerate(conditions) if c == wanted and i not in unfinished]
    excluded = [
        ExcludedRun(source=f"line {table.lines[i]}", code="not_completed", reason=reason)
        for i, reason in unfinished.items()
        if conditions[i] == wanted
    ]
    bad: Bad = {}
    optional, notes = _optional_columns(table, names, rows, bad)
    columns: dict[str, FloatArray] = {
        name: read_numbers(table, names[name], rows, bad)
        for name in ("compute", "compute_budget", "num_params", "num_tokens", "loss")
        if name in names
    }
    notes += _repair_overflow(columns, bad)
    _complete(columns)
    for name, values in {**columns, **optional}.items():
        _check_positive(name, values, table, names, rows, bad)
    seed = _seeds(table, names, rows, bad)
    _find_duplicates([*columns.values(), *optional.values(), seed.astype(np.float64)], table, rows, bad)
    refused = table.ragged | {table.lines[rows[k]]: reason for k, reason in bad.items()}
    if refused and not exclude_bad_rows:
        raise InputError(_describe_bad(table.path, len(rows) + len(table.ragged), refused))
    excluded += [ExcludedRun(source=f"line {line}", code="bad_row", reason=refused[line]) for line in sorted(refused)]
    good = np.array([k for k in range(len(rows)) if k not in bad], dtype=np.int64)
    if len(good) == 0:
        raise InputError(f"{table.path}: no usable run is left; {len(excluded)} were excluded: {excluded[0].reason}.")
    budget, grouping = (
        (columns["compute_budget"][good], []) if "compute_budget" in names else assign_budgets(columns["compute"][good])
    )
    kept = [rows[k] for k in good]
    chosen: dict[str, Any] = {name: values[good] for name, values in optional.items()}
    groups = [table.columns[names["group"]][i] for i in kept] if "group" in names else [str(i) for i in kept]
    runs = RunTable(
        compute_budget=budget,
        compute=columns["compute"][good],
        num_params=columns["num_params"][good],
        num_tokens=columns["num_tokens"][good],
        loss=columns["loss"][good],
        source=tuple(f"line {table.lines[i]}" for i in kept),
        condition=(wanted,) * len(kept),
        group=tuple(groups),
        seed=seed[good],
        excluded=tuple(excluded),
        notes=(*notes, *grouping),
        name=table.path.stem + (f" ({wanted})" if wanted else ""),
        **chosen,
    )
    return select_runs(runs, max_compute=max_compute)


def select_runs(runs: RunTable, *, condition: str | None = None, max_compute: float | None = None) -> RunTable:
    """Returns some of the runs; those above ``max_compute`` are listed as excluded.

    Raises:
        InputError: If no run is left, or ``max_compute`` is no positive number.
    """
    if max_compute is not None and not max_compute > 0:
        raise InputError(f"max_compute: got {max_compute}, expected a positive number of FLOPs.")
    if condition is not None:
        _choose_condition(Path(runs.name or "runs"), runs.condition, condition)
        runs = runs.take(np.array([c == condition for c in runs.condition], dtype=bool))
    if max_compute is None:
        return runs
    # Digitised C scatter around their budget: a budget is kept whole or not at all.
    keep = np.asarray(runs.compute_budget <= max_compute * (1 + EXACT))
    if len(runs) and not keep.any():
        low = float(runs.compute_budget.min())
        raise InputError(f"max_compute={max_compute:g} leaves no run; the smallest has {low:g} FLOPs.")
    return runs.take(keep, code="above_max_compute", reason=f"compute above max_compute={max_compute:g}")


def _resolve(table: TextTable) -> dict[str, str]:
    """Finds the column of the file for each quantity."""
    names = {}
    for quantity, aliases in ALIASES.items():
        found = [a for a in aliases if a in table.columns] or _in_other_case(aliases, table)
        if len(found) > 1:
            raise InputError(f"{table.path}: the columns {' and '.join(found)} both mean {quantity}. Keep one of them.")
        if found:
            names[quantity] = found[0]
    if "compute" not in names and "compute_budget" in names:
        names["compute"] = names["compute_budget"]
    missing = [] if "loss" in names else ["loss"]
    if sum(q in names for q in ("compute", "num_params", "num_tokens")) < 2:
        missing.append("two of C, N and D")
    if missing:
        raise InputError(
            f"{table.path}: no column for {' and '.join(missing)}. Got {', '.join(table.columns) or 'none'}; "
            "expected C (or compute, flops), N (or params, num_params), D (or tokens, num_tokens) and loss."
        )
    return names


def _in_other_case(aliases: tuple[str, ...], table: TextTable) -> list[str]:
    """Words are known in any case (FLOPs, Loss); letters are not, since d or n may stand for anything."""
    words = {alias.lower() for alias in aliases if len(alias) > 1}
    return [name for name in table.columns if name.lower() in words]


def _unfinished(table: TextTable, names: dict[str, str]) -> Bad:
    """Rows that did not complete: their status says so, or the file has statuses and theirs has no loss."""
    if "status" not in names:
        return {}
    pairs = zip(table.columns[names["status"]], table.columns[names["loss"]], strict=True)
    return {
        i: f"status {shorten(status)}" + (", no loss" if status.lower() in COMPLETED else "")
        for i, (status, loss) in enumerate(pairs)
        if status.lower() not in COMPLETED or not loss
    }


def _choose_condition(path: Path, conditions: Sequence[str], wanted: str | None) -> str:
    known = sorted(set(conditions))
    if wanted is None:
        if len(known) > 1:
            counts = ", ".join(f"{c!r} ({conditions.count(c)} runs)" for c in known[:SHOWN])
            counts += f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
            raise InputError(
                f"{path}: holds {len(known)} conditions, and a law is fitted to one: {counts}. "
                "Choose with --condition NAME (condition=... in Python)."
            )
        return known[0] if known else ""
    if wanted not in known:
        raise InputError(f"{path}: " + unknown_name("condition", wanted, wanted, known))
    return wanted


def _repair_overflow(columns: dict[str, FloatArray], bad: Bad) -> list[Finding]:
    """C = 6ND computed in 64-bit integers wraps around; where it did exactly that, 6ND is put back."""
    if not {"compute", "num_params", "num_tokens"} <= set(columns):
        return []

    def wrap(value: int) -> int:
        return (value + 2**63) % 2**64 - 2**63

    compute, n, d = columns["compute"], columns["num_params"], columns["num_tokens"]
    with np.errstate(over="ignore", invalid="ignore"):
        exact = 6 * n * d
        suspects = np.flatnonzero(np.isfinite(exact) & (exact >= 2.0**63) & (np.abs(compute) < 2.0**63))
    repaired = [k for k in suspects if k not in bad and compute[k] == float(wrap(6 * int(n[k]) * int(d[k])))]
    if not repaired:
        return []
    compute[repaired] = exact[repaired]
    message = f"C of {len(repaired)} runs is 6ND wrapped around at 64 bits; 6ND was put in its place."
    return [Finding(level="warning", code="compute_overflow", message=message, advice="Compute C in floating point.")]


def _complete(columns: dict[str, FloatArray]) -> None:
    with np.errstate(all="ignore"):
        if "compute" not in columns:
            columns["compute"] = 6 * columns["num_params"] * columns["num_tokens"]
        if "num_params" not in columns:
            columns["num_params"] = columns["compute"] / (6 * columns["num_tokens"])
        if "num_tokens" not in columns:
            columns["num_tokens"] = columns["compute"] / (6 * columns["num_params"])


def _check_positive(
    name: str, values: FloatArray, table: TextTable, names: dict[str, str], rows: list[int], bad: Bad
) -> None:
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    for k in wrong:
        cell = shorten(table.columns[names[name]][rows[k]]) if name in names else f"{values[k]:g}"
        bad.setdefault(int(k), f"{names.get(name, name)}={cell}, expected a finite number above 0")


def _seeds(table: TextTable, names: dict[str, str], rows: list[int], bad: Bad) -> NDArray[np.int64]:
    if "seed" not in names:
        return np.zeros(len(rows), dtype=np.int64)
    values = read_numbers(table, names["seed"], rows, bad)
    for k in np.flatnonzero(~(np.abs(values) < 2.0**63) | (values != np.round(values))):
        bad.setdefault(
            int(k), f"{names['seed']}={shorten(table.columns[names['seed']][rows[k]])}, expected a whole number"
        )
    return np.array([0 if k in bad else int(v) for k, v in enumerate(values)], dtype=np.int64)


def _find_duplicates(columns: list[FloatArray], table: TextTable, rows: list[int], bad: Bad) -> None:
    keys = np.column_stack(columns)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    original = first[inverse.reshape(-1)]
    for k in np.flatnonzero(original != np.arange(len(keys))):
        bad.setdefault(int(k), f"repeats line {table.lines[rows[original[k]]]}: same C, N, D, loss and seed")


def _describe_bad(path: Path, total: int, refused: Bad) -> str:
    shown = "; ".join(f"line {line}: {refused[line]}" for line in sorted(refused)[:SHOWN])
    more = f"; and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
    return (
        f"{path}: {len(refused)} of {total} rows cannot be used: {shown}{more}. Mend the file, "
        "or leave them out with --exclude-bad-rows (exclude_bad_rows=True in Python); they are then listed."
    )


def _optional_columns(
    table: TextTable, names: dict[str, str], rows: list[int], bad: Bad
) -> tuple[dict[str, FloatArray], list[Finding]]:
    """The optional columns that hold a value for every run, and a finding for those that do so for some."""
    columns, notes = {}, []
    for name in (n for n in OPTIONAL if n in names):
        empty = sum(not table.columns[names[name]][i] for i in rows)
        if empty == 0:
            columns[name] = read_numbers(table, names[name], rows, bad)
        elif empty < len(rows):
            message = f"the column {names[name]} is empty for {empty} of {len(rows)} runs and was not used."
            advice = "Fill it in for every run, or remove it."
            notes.append(Finding(level="warning", code="column_incomplete", message=message, advice=advice))
    return columns, notes
