"""Columns of a runs table: which one is taken for each quantity, and findings where that was a choice."""

import csv
from collections.abc import Iterator, Mapping

import numpy as np

from flops_fit.errors import InputError
from flops_fit.imports.column_names import (
    COUNTS,
    MULTIPLE,
    NAMES,
    UNITS,
    is_column_of,
    is_name_of,
    loss_set,
    normalise,
    split_unit,
)
from flops_fit.imports.table import TextTable
from flops_fit.records import Finding, FloatArray
from flops_fit.schema import unknown_name

LOG_COLUMNS = {"step", "globalstep", "walltime", "timestamp", "iteration"}
OPTION = "--columns loss=COLUMN,N=COLUMN (columns={'loss': 'COLUMN', ...} in Python)"


def parse_columns(text: str) -> dict[str, str]:
    """Reads ``loss=val_loss,N=params`` as a mapping; a part with a comma in it stands in double quotes.

    Raises:
        InputError: If a part is not KEY=COLUMN, or a key appears twice.
    """
    chosen: dict[str, str] = {}
    for part in next(csv.reader([text]), []):
        key, equals, column = (p.strip() for p in part.partition("="))
        if not (key and equals and column):
            raise InputError(f"--columns: got {part!r}, expected KEY=COLUMN, such as loss=val_loss,N=params.")
        if key in chosen:
            raise InputError(f"--columns: got {key} twice ({chosen[key]!r} and {column!r}). Keep one of them.")
        chosen[key] = column
    return chosen


def resolve_columns(table: TextTable, chosen: Mapping[str, str] | None = None) -> tuple[dict[str, str], list[Finding]]:
    """Finds the column of each quantity.

    Args:
        table: Whose columns.
        chosen: Columns that the user named, by quantity (any of its names); they go before all others.

    Returns:
        The column by quantity, and findings where a name was not the documented one.

    Raises:
        InputError: If a needed column is missing, two differ that mean the same, or ``chosen`` names what is unknown.
    """
    names = _explicit(table, chosen or {})
    stated = set(names)
    unused: list[str] = []
    for quantity in NAMES:
        if quantity not in names:
            found = [c for c in table.columns if c not in names.values() and is_column_of(c, quantity)]
            if found:
                names[quantity] = _choose(table, quantity, found, unused)
    _require(table, names)
    notes = _describe_choice(names, stated, unused)
    if loss_set(names["loss"]) == "training":
        notes.append(
            Finding(
                level="warning",
                code="training_loss",
                message=f"the loss is a training loss ({names['loss']!r}), so the law predicts training loss.",
                advice="Use a held-out loss where there is one: a training loss is averaged over steps, and low where "
                "data repeat.",
            )
        )
    if "compute" not in names and "compute_budget" in names:
        names["compute"] = names["compute_budget"]
    return names, notes


def _explicit(table: TextTable, chosen: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(chosen, Mapping):
        raise InputError(f"columns: got {chosen!r}, expected a mapping such as {{'loss': 'val_loss', 'N': 'params'}}.")
    names: dict[str, str] = {}
    for key, column in chosen.items():
        quantity = next((q for q in NAMES if key == q or is_column_of(key, q)), None)
        if quantity is None:
            known = [n for names in NAMES.values() for n in names]
            raise InputError("--columns: " + unknown_name("quantity", key, key, known))
        if column not in table.columns:
            raise InputError(f"{table.path}: --columns {key}: " + unknown_name("column", column, column, table.columns))
        if quantity in names:
            raise InputError(f"--columns: got {names[quantity]!r} and {column!r} for {quantity}. Keep one of them.")
        if column in names.values():
            raise InputError(f"--columns: got {column!r} for {quantity} and for another quantity. Keep one of them.")
        multiple = MULTIPLE.search(column) if quantity in COUNTS and column not in NAMES[quantity] else None
        if multiple:
            raise InputError(
                f"{table.path}: the column {column!r} counts in {multiple[1]!r}, expected plain counts of {quantity}. "
                f"Multiply it out and rename it {NAMES[quantity][-1]}."
            )
        names[quantity] = column
    return names


def _choose(table: TextTable, quantity: str, found: list[str], unused: list[str]) -> str:
    """The one of several columns to take; those that differ from it and rank lower are added to ``unused``."""
    if quantity == "loss":
        sets = {c: loss_set(c) for c in found}
        # A held-out loss goes before a test loss, and any loss before a training loss.
        for lower, higher in (("training", {"held-out", "test", "unstated"}), ("test", {"held-out"})):
            if higher & set(sets.values()):
                unused += [c for c in found if sets[c] == lower]
                found = [c for c in found if sets[c] != lower]
    if len(found) > 1 and quantity not in ("condition", "group", "status"):
        # A column of text, such as "70M", does not compete with one of numbers.
        found = [c for c in found if np.isfinite(_values(table, c)).any()] or found
    found = sorted(found, key=lambda c: c not in NAMES[quantity])
    for other in found[1:]:
        row = _first_difference(table, found[0], other)
        if row is not None:
            values = " and ".join(table.columns[c][row] or "nothing" for c in (found[0], other))
            key = next((n for n in NAMES[quantity] if n in "CND"), NAMES[quantity][0])
            raise InputError(
                f"{table.path}: the columns {found[0]!r} and {other!r} both mean {quantity} and differ "
                f"({table.position(row)}: {values}). Choose with --columns {key}={found[0]} or {key}={other} "
                f"(columns={{{key!r}: {found[0]!r}}} in Python)."
            )
    return found[0]


def _first_difference(table: TextTable, a: str, b: str) -> int | None:
    x, y = _values(table, a), _values(table, b)
    same = np.isclose(x, y, rtol=1e-6, atol=0, equal_nan=True)
    for row in range(len(same)):
        if not np.isfinite(x[row]) and not np.isfinite(y[row]):
            same[row] = table.columns[a][row] == table.columns[b][row]
    return None if same.all() else int(np.argmin(same))


def _values(table: TextTable, column: str) -> FloatArray:
    return np.fromiter(map(_value, table.columns[column]), dtype=np.float64, count=len(table.columns[column]))


def _value(cell: str) -> float:
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        return float("nan")


def _require(table: TextTable, names: Mapping[str, str]) -> None:
    missing = [] if "loss" in names else ["loss"]
    has_compute = "compute" in names or "compute_budget" in names
    if has_compute + ("num_params" in names) + ("num_tokens" in names) < 2:
        missing.append("two of C, N and D")
    if not missing:
        return
    columns = ", ".join(table.columns) or "none"
    message = f"{table.path}: no column for {' and '.join(missing)}. Got {columns}; expected C (or compute, flops), N "
    message += f"(or params, num_params), D (or tokens, num_tokens) and loss; name others with {OPTION}."
    raise InputError(" ".join([message, *_hints(table)]))


def _hints(table: TextTable) -> Iterator[str]:
    for column in table.columns:
        base, unit = split_unit(column)
        quantity = next((q for q in UNITS if unit and is_name_of(base, q) and not is_column_of(column, q)), None)
        if quantity:
            wanted = "nats per token" if quantity == "loss" else "plain counts"
            yield f"{column!r} was not taken as {quantity}: got {unit!r}, expected {wanted}."
    if any(c.endswith(("_opt", "_optimal")) for c in table.columns):
        yield "A table of optima cannot be fitted: expected the runs that they were found from."
    if LOG_COLUMNS & {normalise(c) for c in table.columns}:
        yield "If this is the log of one run: expected one row per finished run."


def _describe_choice(names: Mapping[str, str], stated: set[str], unused: list[str]) -> list[Finding]:
    taken = [
        f"{quantity} from {column!r}"
        for quantity, column in names.items()
        if quantity in stated or normalise(split_unit(column)[0]) not in {normalise(n) for n in NAMES[quantity]}
    ]
    if not taken:
        return []
    message = f"columns taken: {', '.join(taken)}." + (f" Not used: {', '.join(map(repr, unused))}." if unused else "")
    return [Finding(level="info", code="columns_taken", message=message, advice=f"To take others: {OPTION}.")]
