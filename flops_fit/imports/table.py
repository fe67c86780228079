"""Text tables: columns of cells as text, each row with the place where it stood in the file."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flops_fit.errors import InputError

SHOWN = 40
"""Characters of a cell that a message quotes."""


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """Columns of equal length."""

    path: Path
    columns: dict[str, list[str]]
    """Cells as text, outer blanks stripped, by column name."""
    lines: list[int]
    """The line of the file that each row ended on; in a file without lines the row number from 1."""
    ragged: dict[int, str]
    """Lines with more or fewer fields than the header, and how many; they are in no column."""
    place: str = "line"
    """What ``lines`` counts: "line", or "row" in a file without lines."""
    decimal_comma: bool = False
    """Whether a comma in a number may be its decimal mark, since no comma separates the fields."""

    def position(self, row: int) -> str:
        """Returns where a row stood, such as "line 17"."""
        return f"{self.place} {self.lines[row]}"


def check_header(path: Path, names: Iterable[str]) -> None:
    """Refuses a header that names no columns, or one twice."""
    names = list(names)
    if names and all(_is_number(name) for name in names):
        raise InputError(
            f"{path}: the first row holds numbers ({', '.join(map(shorten, names[:4]))}), expected column names. "
            "Add a header such as C,N,D,loss."
        )
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise InputError(f"{path}: the column {shorten(doubled[0])} appears twice in the header. Rename or remove one.")


def shorten(cell: str) -> str:
    """Quotes a cell for a message."""
    return repr(cell) if len(cell) <= SHOWN else f"{cell[:SHOWN]!r}..."


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
