"""Numbers in text cells: read strictly, with the decimal mark that the file itself shows."""

import contextlib
import dataclasses
import re
from collections.abc import Iterable

import numpy as np

from flops_fit.errors import InputError
from flops_fit.imports.table import TextTable, shorten
from flops_fit.records import Finding, FloatArray

ONE_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
"""What may also be a whole number with thousands separators: 1,500 but not 0,675 or 3,21."""


def read_numbers(table: TextTable, column: str, rows: list[int], bad: dict[int, str]) -> FloatArray:
    """Reads some rows of a column as float64, shape (n_rows,).

    Args:
        table: Where from.
        column: Its name.
        rows: Indices of the rows.
        bad: Gains what is wrong with the k-th of them, where it is not a plain number; the value is NaN then.
    """
    cells = [table.columns[column][i] for i in rows]
    # float() also takes 1_000 and digits of other scripts.
    together = "".join(cells)
    if together.isascii() and "_" not in together:
        with contextlib.suppress(ValueError):
            return np.array(cells, dtype=np.float64)
    values = np.full(len(cells), np.nan)
    for k, cell in enumerate(cells):
        if cell.isascii() and "_" not in cell:
            with contextlib.suppress(ValueError):
                values[k] = float(cell)
                continue
        wrong = (
            f"={shorten(cell)} is not a plain number (write 70e6 or 1.5e18: a decimal point, no units, no thousands "
            "separators)"
            if cell
            else " is empty"
        )
        bad.setdefault(k, column + wrong)
    return values


def with_decimal_points(
    table: TextTable, columns: Iterable[str], counts: Iterable[str]
) -> tuple[TextTable, list[Finding]]:
    """Rewrites the decimal commas of some columns as points, where the file leaves no doubt that they are that.

    A comma is the decimal mark where commas separate no fields, no number has a point, and at least one number cannot
    be a whole number with thousands separators.

    Args:
        table: Where from.
        columns: Those of numbers.
        counts: Those of them that hold FLOPs, parameters or tokens, where 1,400 is hardly 1.4.

    Raises:
        InputError: If commas and points are mixed, or a comma may also separate thousands.
    """
    columns = sorted(set(columns))
    if not table.decimal_comma:
        return table, []
    commas = [c for c in _cells(table, columns) if "," in c[2]]
    decimal = [c for c in commas if ONE_COMMA.fullmatch(c[2])]
    if not decimal:
        return table, []
    points = [c for c in _cells(table, columns) if "." in c[2]]
    if points:
        raise InputError(
            f"{table.path}: {_quote(table, decimal[0])} has a comma and {_quote(table, points[0])} a point, and only "
            "one of them can be the decimal mark. Write all numbers with a decimal point, without thousands separators."
        )
    grouped = [c for c in decimal if THOUSANDS.fullmatch(c[2])]
    unclear = grouped if len(grouped) == len(decimal) else [c for c in grouped if c[0] in set(counts)]
    if unclear:
        cell = unclear[0][2]
        raise InputError(
            f"{table.path}: {_quote(table, unclear[0])} may be {cell.replace(',', '')} or {cell.replace(',', '.')}. "
            "Write it with a decimal point, without thousands separators."
        )
    changed = {
        name: [cell.replace(",", ".") if ONE_COMMA.fullmatch(cell) else cell for cell in table.columns[name]]
        for name in columns
    }
    note = Finding(
        level="info",
        code="decimal_comma",
        message=f"numbers were read with a decimal comma, {len(decimal)} of them, such as {_quote(table, decimal[0])}.",
        advice="If the commas separate thousands, remove them from the file.",
    )
    return dataclasses.replace(table, columns=table.columns | changed), [note]


def _cells(table: TextTable, columns: Iterable[str]) -> Iterable[tuple[str, int, str]]:
    return ((name, row, cell) for name in columns for row, cell in enumerate(table.columns[name]))


def _quote(table: TextTable, found: tuple[str, int, str]) -> str:
    column, row, cell = found
    return f"{column}={shorten(cell)} ({table.position(row)})"
