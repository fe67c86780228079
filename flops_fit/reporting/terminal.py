"""Terminal: text wrapped and tables fitted to its width, in colour where a terminal shows colour."""

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 100
MIN_WIDTH = 40
PROSE_WIDTH = 100
"""Longer lines of prose are hard to read; tables use the full width."""
INDENT = 2


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """A width in columns, and whether colour is shown."""

    width: int
    color: bool

    def wrap(self, text: str, *, indent: int = 0, style: str = "") -> str:
        """Prose with a hanging indent."""
        first, rest = " " * indent, " " * (indent + INDENT)
        wrapped = textwrap.fill(
            text, self.prose_width, initial_indent=first, subsequent_indent=rest, break_long_words=False
        )
        return self._render(Text(wrapped, style=style)) if style else wrapped

    def one_line(self, text: str) -> str:
        """As much of the text as fits into one indented line."""
        return " " * INDENT + textwrap.shorten(text, self.prose_width - INDENT, placeholder=" ...")

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        optional: Sequence[str] = (),
        marked: int | None = None,
    ) -> str:
        """A table that fits into the width.

        Where it is too wide, ``optional`` columns are dropped first; then intervals go below their values, and the
        gaps shrink; what is still too wide is folded.
        """
        kept = [i for i, name in enumerate(header) if name not in optional]
        without = [[row[i] for i in kept] for row in (header, *rows)]
        stacked = [[cell.replace(" [", "\n[") for cell in row] for row in without]
        whole = [list(row) for row in (header, *rows)]
        layouts = [(whole, 2), (without, 2), (stacked, 2), (stacked, 1)]
        cells, gap = next((x for x in layouts if INDENT + _table_width(*x) <= self.width), layouts[-1])
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
        for name in cells[0]:
            table.add_column(Text(name), overflow="fold")
        for index, row in enumerate(cells[1:]):
            table.add_row(*map(Text, row), style="bold" if index == marked else "")
        return self._render(Padding(table, (0, 0, 0, INDENT)))

    @property
    def prose_width(self) -> int:
        """Columns that prose uses."""
        return min(self.width, PROSE_WIDTH)

    def _render(self, item: RenderableType) -> str:
        console = Console(
            file=io.StringIO(), width=self.width, force_terminal=self.color, no_color=not self.color,
            color_system="standard" if self.color else None, force_jupyter=False, legacy_windows=False,
        )  # fmt: skip
        with console.capture() as capture:
            console.print(item)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())


def detect_terminal(width: int | None = None, color: bool | None = None) -> Terminal:
    """The terminal at stdout, where ``width`` and ``color`` do not say otherwise.

    Reads COLUMNS and the size of the terminal; colour is on where stdout is one, unless NO_COLOR is set or TERM is
    "dumb".
    """
    if width is None:
        width = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns
    if color is None:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Terminal(width=max(width, MIN_WIDTH), color=color)


def _table_width(cells: Sequence[Sequence[str]], gap: int) -> int:
    columns = zip(*cells, strict=True)
    widths = [max(len(line) for cell in column for line in cell.split("\n")) for column in columns]
    return sum(widths) + gap * (len(widths) - 1)
