"""How is a table of text read without guessing?

CSV, JSONL and Parquet become columns of text, each row with the line it stood on. A row of another length is kept
apart, because it would shift values into the wrong column; what a column means is for the caller to say.
"""

import contextlib
import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flops_fit.errors import InputError
from flops_fit.records import FloatArray

MAX_BYTES = 1_000_000_000
SHOWN = 40
"""Characters of a cell that a message quotes."""


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """LogRuns of equal length."""

    path: Path
    columns: dict[str, list[str]]
    """Cells as text, blanks stripped, by column name."""
    lines: list[int]
    """The line of the file that each row stood on; for Parquet the row number from 1."""
    ragged: dict[int, str]
    """Lines with more or fewer fields than the header, and how many; they are in no column."""


def read_table(path: Path) -> TextTable:
    """Reads a table by its file name: ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``.

    Raises:
        InputError: If the file is missing, empty, not UTF-8, or not of its kind.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. Expected a CSV, JSONL or Parquet file of runs, or a sweep's folder.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: got {path.stat().st_size} bytes, expected at most {MAX_BYTES}.")
    readers = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".txt": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: got the ending {path.suffix!r}, expected one of {', '.join(readers)}.")
    table = reader(path)
    if not table.lines and not table.ragged:
        raise InputError(f"{path}: got no rows below the header {', '.join(table.columns)}, expected one per run.")
    return table


def read_numbers(table: TextTable, column: str, rows: list[int], bad: dict[int, str]) -> FloatArray:
    """Reads some rows of a column as float64, shape (n_rows,).

    Args:
        table: Where from.
        column: Its name.
        rows: Indices of the rows.
        bad: Takes what is wrong with the k-th of them, where it is no plain number; the value is NaN then.
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
        wrong = f"={shorten(cell)} is not a plain number (write 70e6, not 70M or 70,000,000)" if cell else " is empty"
        bad.setdefault(k, column + wrong)
    return values


def shorten(cell: str) -> str:
    """Quotes a cell for a message."""
    return repr(cell) if len(cell) <= SHOWN else f"{cell[:SHOWN]!r}..."


def _read_csv(path: Path) -> TextTable:
    text = _decode(path)
    first = text.split("\n", 1)[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    if delimiter not in first and ";" in first:
        raise InputError(f"{path}: the header {first.strip()!r} is separated by ';'. Save it separated by commas.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        rows, lines, ragged = [], [], {}
        for row in reader:
            if not row:
                continue
            if len(row) == len(header):
                rows.append(row)
                lines.append(reader.line_num)
            else:
                ragged[reader.line_num] = (
                    f"has {len(row)} fields, the header {len(header)} (text with commas must be quoted)"
                )
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not valid CSV: {error}.") from error
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return TextTable(
        path=path,
        columns={name: [cell.strip() for cell in column] for name, column in zip(header, columns, strict=True)},
        lines=lines,
        ragged=ragged,
    )


def _read_jsonl(path: Path) -> TextTable:
    records, lines = [], []
    for number, line in enumerate(_decode(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: not a JSON object: {error}.") from error
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number}: got {type(record).__name__}, expected a JSON object per line.")
        records.append(record)
        lines.append(number)
    names = list(dict.fromkeys(name for record in records for name in record))
    _check_header(path, names)
    return TextTable(
        path=path, columns={n: [_to_text(r.get(n)) for r in records] for n in names}, lines=lines, ragged={}
    )


def _read_parquet(path: Path) -> TextTable:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}.") from error
    _check_header(path, table.column_names)
    columns = {name: [_to_text(v) for v in table.column(name).to_pylist()] for name in table.column_names}
    return TextTable(path=path, columns=columns, lines=list(range(1, table.num_rows + 1)), ragged={})


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error}). Save it as UTF-8.") from error
    if not text.strip():
        raise InputError(f"{path}: got an empty file, expected a header and one row per run.")
    if "\0" in text:
        raise InputError(f"{path}: holds NUL bytes, so it is no text file. Save it as UTF-8 CSV.")
    return text


def _check_header(path: Path, names: Iterable[str]) -> None:
    names = list(names)
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise InputError(f"{path}: the column {doubled[0]!r} stands twice in the header. Rename or remove one.")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _to_text(value: Any) -> str:
    return "" if value is None else str(value).strip()
