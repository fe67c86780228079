"""Runs of anyone's table, read strictly.

Columns by letter, or by word in any case: C (compute, flops), N (params, num_params), D (tokens, num_tokens), loss;
two of C, N, D suffice, C = 6ND then. Optional: compute_budget (planned C), condition, seed, group, status,
learning_rate, epochs, schedule_tokens (D that the learning rate was decayed for), unique_tokens,
num_params_non_embedding, loss_std_error (empty where unknown). Other usual names are in `column_names`, and any column
can be named by the caller. Other columns are ignored. A bad row is an error that names its line.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flops_fit.errors import InputError
from flops_fit.imports.budgets import EXACT, assign_budgets
from flops_fit.imports.column_names import COUNTS
from flops_fit.imports.columns import resolve_columns
from flops_fit.imports.files import read_table
from flops_fit.imports.numbers import read_numbers, with_decimal_points
from flops_fit.imports.table import TextTable, shorten
from flops_fit.records import ExcludedRun, Finding, FloatArray, RunTable
from flops_fit.schema import unknown_name

OPTIONAL = ("learning_rate", "epochs", "schedule_tokens", "unique_tokens", "num_params_non_embedding", "loss_std_error")
"""Columns of numbers that a fit can do without."""
PARTIAL = "loss_std_error"
"""The one that may be empty for some runs."""
MAIN = ("compute", "compute_budget", "num_params", "num_tokens", "loss")
TEXT = ("condition", "group", "status")
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
    columns: Mapping[str, str] | None = None,
) -> RunTable:
    """Reads a table of finished runs.

    Rows that repeat another exactly are listed as excluded.

    Args:
        path: A ``.csv``, ``.tsv``, ``.txt``, ``.jsonl``, ``.json`` (each also with ``.gz``) or ``.parquet`` file.
        condition: Which condition to take; needed where the file holds several.
        max_compute: Leave out runs above this many FLOPs.
        exclude_bad_rows: List bad rows as excluded instead of refusing the file.
        columns: The file's column by quantity, such as ``{"loss": "val_loss", "N": "params"}``; others are found by
            their names.

    Raises:
        InputError: If the file cannot be read, lacks columns, or has bad rows; the message names lines and reasons.
    """
    table = read_table(Path(path))
    names, notes = resolve_columns(table, columns)
    table, mark = with_decimal_points(
        table, [c for q, c in names.items() if q not in TEXT], [c for q, c in names.items() if q in COUNTS]
    )
    unfinished = _unfinished(table, names)
    conditions = table.columns[names["condition"]] if "condition" in names else [""] * len(table.lines)
    wanted = _choose_condition(table.path, conditions, condition)
    rows = [i for i, c in enumerate(conditions) if c == wanted and i not in unfinished]
    excluded = [
        ExcludedRun(source=table.position(i), code="not_completed", reason=reason)
        for i, reason in unfinished.items()
        if conditions[i] == wanted
    ]
    bad: Bad = {}
    values, incomplete = _read_columns(table, names, rows, bad)
    overflow = _repair_overflow(values, bad)
    _complete(values)
    for name, column in values.items():
        _check_positive(name, column, table, names, rows, bad)
    seed = _seeds(table, names, rows, bad)
    refused = table.ragged | {table.lines[rows[k]]: reason for k, reason in bad.items()}
    if refused and not exclude_bad_rows:
        raise InputError(_describe_bad(table, len(rows) + len(table.ragged), refused))
    excluded += [
        ExcludedRun(source=f"{table.place} {line}", code="bad_row", reason=refused[line]) for line in sorted(refused)
    ]
    repeats = _find_repeats(np.nan_to_num(np.column_stack([*values.values(), seed.astype(np.float64)])), bad)
    excluded += [
        ExcludedRun(
            source=table.position(rows[k]), code="repeated_row", reason=f"repeats {table.position(rows[first])}"
        )
        for k, first in repeats.items()
    ]
    good = np.array([k for k in range(len(rows)) if k not in bad and k not in repeats], dtype=np.int64)
    if len(good) == 0:
        raise InputError(f"{table.path}: no usable run is left; {len(excluded)} were excluded: {excluded[0].reason}.")
    budget, grouping = (
        (values["compute_budget"][good], []) if "compute_budget" in values else assign_budgets(values["compute"][good])
    )
    kept = [rows[k] for k in good]
    chosen: dict[str, Any] = {name: values[name][good] for name in OPTIONAL if name in values}
    runs = RunTable(
        compute_budget=budget,
        compute=values["compute"][good],
        num_params=values["num_params"][good],
        num_tokens=values["num_tokens"][good],
        loss=values["loss"][good],
        source=tuple(table.position(i) for i in kept),
        condition=(wanted,) * len(kept),
        group=_groups(table, names, kept),
        seed=seed[good],
        excluded=tuple(excluded),
        notes=(*notes, *mark, *incomplete, *overflow, *_describe_repeats(table, rows, repeats), *grouping),
        name=table.path.name.removesuffix(".gz").rpartition(".")[0] + (f" ({wanted})" if wanted else ""),
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
        if name == PARTIAL and not table.columns[names[name]][rows[k]]:
            continue
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


def _find_repeats(keys: FloatArray, bad: Bad) -> dict[int, int]:
    """Returns the first equal row of each row that repeats one, among rows that are not bad; keys of shape (n, k)."""
    usable = np.array([k for k in range(len(keys)) if k not in bad], dtype=np.int64)
    _, first, inverse = np.unique(keys[usable], axis=0, return_index=True, return_inverse=True)
    originals = usable[first[inverse.reshape(-1)]]
    return {int(k): int(original) for k, original in zip(usable, originals, strict=True) if k != original}


def _describe_repeats(table: TextTable, rows: list[int], repeats: Mapping[int, int]) -> list[Finding]:
    if not repeats:
        return []
    pairs = [f"{table.position(rows[k])} repeats {table.position(rows[first])}" for k, first in repeats.items()]
    more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    return [
        Finding(
            level="info",
            code="repeated_rows",
            message=f"{len(pairs)} repeated row{'s' * (len(pairs) > 1)} (same C, N, D, loss and seed) dropped: "
            f"{', '.join(pairs[:SHOWN])}{more}.",
            advice="If they are runs of their own, tell them apart by a seed column.",
        )
    ]


def _describe_bad(table: TextTable, total: int, refused: Bad) -> str:
    shown = "; ".join(f"{table.place} {line}: {refused[line]}" for line in sorted(refused)[:SHOWN])
    more = f"; and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
    return (
        f"{table.path}: {len(refused)} of {total} rows cannot be used: {shown}{more}. Fix the file, or leave those "
        "rows out with --exclude-bad-rows (exclude_bad_rows=True in Python); they are then listed as excluded."
    )


def _read_columns(
    table: TextTable, names: dict[str, str], rows: list[int], bad: Bad
) -> tuple[dict[str, FloatArray], list[Finding]]:
    """The columns of numbers, but optional ones only where they hold a value for every run; findings on the others."""
    columns, notes = {}, []
    for name in (*OPTIONAL, *MAIN):
        if name not in names:
            continue
        empty = sum(not table.columns[names[name]][i] for i in rows)
        if empty == 0 or name in MAIN:
            columns[name] = read_numbers(table, names[name], rows, bad)
        elif name == PARTIAL and empty < len(rows):
            filled = [k for k, i in enumerate(rows) if table.columns[names[name]][i]]
            wrong: Bad = {}
            columns[name] = np.full(len(rows), np.nan)
            columns[name][filled] = read_numbers(table, names[name], [rows[k] for k in filled], wrong)
            bad |= {filled[k]: reason for k, reason in wrong.items() if filled[k] not in bad}
        elif empty < len(rows):
            message = f"the column {names[name]} is empty for {empty} of {len(rows)} runs and was not used."
            advice = "Fill it in for every run, or remove it."
            notes.append(Finding(level="warning", code="column_incomplete", message=message, advice=advice))
    return columns, notes


def _groups(table: TextTable, names: dict[str, str], kept: list[int]) -> tuple[str, ...]:
    """The group of each run; a run without one is a group of its own."""
    if "group" not in names:
        return tuple(map(str, kept))
    return tuple(table.columns[names["group"]][i] or f"{table.position(i)}, without a group" for i in kept)
