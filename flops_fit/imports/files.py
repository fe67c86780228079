"""Table files: CSV, JSON and Parquet, plain or gzipped, as columns of text.

A row of another length is kept apart, because it would shift values into the wrong column; what a column means is for
the caller to decide.
"""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from flops_fit.errors import InputError
from flops_fit.imports.delimited import parse_delimited
from flops_fit.imports.table import TextTable, check_header

MAX_BYTES = 1_000_000_000


def read_table(path: Path) -> TextTable:
    """Reads a table by the ending of its name, one of `FORMATS`; each text format may also end in ``.gz``.

    Raises:
        InputError: If the file is missing, empty, not UTF-8, or not of its format.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Expected a CSV, JSON, JSONL or Parquet file of runs, or the folder of a sweep."
        )
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: got {path.stat().st_size} bytes, expected at most {MAX_BYTES}.")
    ending = path.suffix.lower()
    packed = ending == ".gz"
    if packed:
        ending = path.with_suffix("").suffix.lower()
    if ending not in FORMATS and not (ending == ".parquet" and not packed):
        raise InputError(
            f"{path}: got the ending {''.join(path.suffixes[-2:]) if packed else path.suffix!r}, expected one of "
            f"{', '.join(FORMATS)} (each also with .gz) or .parquet. Save the table as CSV."
        )
    table = _read_parquet(path) if ending == ".parquet" else FORMATS[ending](path, _decode(path, packed))
    if not table.lines and not table.ragged:
        raise InputError(f"{path}: got no rows below the header {', '.join(table.columns)}, expected one per run.")
    return table


def _decode(path: Path, packed: bool) -> str:
    data = _unpack(path) if packed else path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error}). Save it as UTF-8.") from error
    if not text.strip():
        raise InputError(f"{path}: got an empty file, expected a header and one row per run.")
    if "\0" in text:
        raise InputError(f"{path}: contains NUL bytes, so it is not a text file. Save it as UTF-8 CSV.")
    return text


def _unpack(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a readable gzip file ({error}). Compress it again, or remove .gz.") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: got more than {MAX_BYTES} bytes uncompressed, expected at most that.")
    return data


def _parse_json_lines(path: Path, text: str) -> TextTable:
    records, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        record = _load_json(f"{path}, line {number}", line)
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number}: got {type(record).__name__}, expected a JSON object per line.")
        records.append(record)
        lines.append(number)
    return _from_records(path, records, lines, place="line")


def _parse_json(path: Path, text: str) -> TextTable:
    """A list of objects, or (as many loggers name it) one object per line."""
    if not text.lstrip().startswith("[") and "\n" in text.strip():
        lines = [line for line in text.split("\n") if line.strip()]
        if all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines):
            return _parse_json_lines(path, text)
    records = _load_json(str(path), text)
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise InputError(
            f"{path}: got a JSON {type(records).__name__}, expected a list of objects, one per run, as "
            "DataFrame.to_json(orient='records') writes it."
        )
    return _from_records(path, records, list(range(1, len(records) + 1)), place="row")


def _load_json(where: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON: {error}.") from error


def _from_records(path: Path, records: list[dict[str, Any]], lines: list[int], *, place: str) -> TextTable:
    names = list(dict.fromkeys(name for record in records for name in record))
    check_header(path, names)
    columns = {name: [_to_text(record.get(name)) for record in records] for name in names}
    return TextTable(path=path, columns=columns, lines=lines, ragged={}, place=place)


def _read_parquet(path: Path) -> TextTable:
    import pyarrow
    import pyarrow.parquet

    try:
        # Names and texts are decoded only when they are asked for.
        table = pyarrow.parquet.read_table(path)
        names = table.column_names
        cells = [column.to_pylist() for column in table.columns]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}.") from error
    check_header(path, names)
    columns = {name: [_to_text(v) for v in values] for name, values in zip(names, cells, strict=True)}
    return TextTable(path=path, columns=columns, lines=list(range(1, table.num_rows + 1)), ragged={}, place="row")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key appears twice")
    return dict(pairs)


def _to_text(value: Any) -> str:
    return "" if value is None else str(value).strip()


FORMATS = {
    ".csv": parse_delimited,
    ".tsv": parse_delimited,
    ".txt": parse_delimited,
    ".jsonl": _parse_json_lines,
    ".ndjson": _parse_json_lines,
    ".json": _parse_json,
}
