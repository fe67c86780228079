"""Delimited text: fields separated by commas, semicolons or tabs, whichever the file itself shows."""

import csv
import io
from pathlib import Path

from flops_fit.errors import InputError
from flops_fit.imports.table import TextTable, check_header

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
Row = tuple[int, list[str]]
"""The line that a row ended on, and its fields."""


def parse_delimited(path: Path, text: str) -> TextTable:
    """Splits text into columns.

    The delimiter is the one in the header; where the header has several, the one that splits every row alike.
    Columns without a name (an index, or what a spreadsheet appends) are dropped.

    Raises:
        InputError: If the text is not valid CSV, its delimiter is ambiguous, or its header is not usable.
    """
    first = text.lstrip("\r\n").split("\n", 1)[0]
    candidates = [d for d in DELIMITERS if d in first]
    delimiter = candidates[0] if len(candidates) == 1 else _choose_delimiter(path, text, candidates)
    (_, header), *rows = _parse(path, text, delimiter)
    header = [name.strip() for name in header]
    check_header(path, [name for name in header if name])
    whole = [(line, row) for line, row in rows if len(row) == len(header)]
    columns = {name: [row[k].strip() for _, row in whole] for k, name in enumerate(header) if name}
    ragged = {line: _describe_length(len(row), len(header), delimiter) for line, row in rows if len(row) != len(header)}
    return TextTable(
        path=path,
        columns=columns,
        lines=[line for line, _ in whole],
        ragged=ragged,
        decimal_comma=delimiter != ",",
    )


def _choose_delimiter(path: Path, text: str, candidates: list[str]) -> str:
    """The one delimiter of several in the header that gives every row as many fields as the header."""
    regular = []
    for delimiter in candidates:
        try:
            rows = _parse(path, text, delimiter)
        except InputError:
            continue
        if {len(row) for _, row in rows} == {len(rows[0][1])} != {1}:
            regular.append(delimiter)
    if len(regular) > 1:
        used = " and ".join(DELIMITERS[d] for d in regular)
        raise InputError(f"{path}: the header may be separated by {used}. Save the file with only one of them in it.")
    if regular:
        return regular[0]
    # Nothing fits: the rows that do not are then reported by line.
    return "\t" if "\t" in candidates and ".tsv" in path.suffixes else ","


def _parse(path: Path, text: str, delimiter: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not valid CSV: {error}.") from error


def _describe_length(got: int, expected: int, delimiter: str) -> str:
    advice = f"text with {DELIMITERS[delimiter]} must be quoted"
    if delimiter == ",":
        advice += "; with decimal commas, separate columns by semicolons"
    return f"has {got} fields, the header {expected} ({advice})"
