"""Report: one HTML file with the answer, the evidence and a way back from every number to its run."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from flops_fit.files import replace_file
from flops_fit.fitting import ScalingLaws
from flops_fit.quantities import count_of, format_count, format_factor, format_flops, format_loss, format_percent
from flops_fit.reporting import sections
from flops_fit.reporting.evidence import Cell, Evidence, Table
from flops_fit.reporting.formatting import format_estimate, format_fitted
from flops_fit.reporting.optima_table import HEADER, table_notes, table_row
from flops_fit.reporting.sections import FigureItem, Section, TableItem

TARGET_FACTOR = 10.0
"""The first sentence states the prediction for this many times the largest fitted budget."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A figure or a table as the template shows it; one of the two is None."""

    caption: str
    image: str | None = None
    """Data URI."""
    table: Table | None = None


def write_report(evidence: Evidence, path: Path) -> Path:
    """Writes the report; see `flops_fit.reporting.write_report`."""
    shown = [(section, list(_blocks(section, evidence))) for section in sections.SECTIONS]
    html = _environment().get_template("report.html.j2").render(
        **_answer(evidence),
        **_scope(evidence.laws),
        sections=[(section, blocks) for section, blocks in shown if blocks or section.if_empty],
    )  # fmt: skip
    replace_file(path, html.encode())
    return path


def summary_html(laws: ScalingLaws) -> str:
    """The verdict, the answer and the table as an HTML fragment."""
    return _environment().get_template("summary.html.j2").render(**_answer(Evidence(laws=laws)))


def _blocks(section: Section, evidence: Evidence) -> Iterator[Block]:
    """What the section has to show for these runs."""
    for item in section.items:
        block = _figure(item, evidence) if isinstance(item, FigureItem) else _table(item, evidence)
        if block is not None:
            yield block


def _figure(item: FigureItem, evidence: Evidence) -> Block | None:
    drawn = sections.draw(item, evidence.laws)
    if drawn is None:
        return None
    return Block(caption=item.caption, image="data:image/svg+xml;base64," + base64.b64encode(drawn.svg).decode())


def _table(item: TableItem, evidence: Evidence) -> Block | None:
    table = item.make(evidence)
    return None if table is None else Block(caption=item.caption, table=table)


def _answer(evidence: Evidence) -> dict[str, Any]:
    laws = evidence.laws
    law = None if laws.recommended is None else laws.laws[laws.recommended]
    notes = [f"In brackets: {format_percent(laws.options.level)} intervals.", *table_notes(laws, evidence.predictions)]
    return {
        "trust": laws.trust,
        "law": laws.recommended,
        "reason": laws.reason,
        "a": None if law is None else format_fitted(law.a),
        "b": None if law is None else format_fitted(law.b),
        "data_unit": laws.runs.data_unit,
        "target": None if law is None else _target(laws),
        "table": Table(
            header=HEADER, rows=tuple(table_row(laws, p) for p in evidence.predictions), note=" ".join(notes)
        ),
    }


def _target(laws: ScalingLaws) -> dict[str, Any]:
    """The prediction that the first sentence states."""
    p = laws.predict(TARGET_FACTOR * laws.max_compute)
    return {
        "factor": format_factor(TARGET_FACTOR),
        "compute": format_flops(p.compute),
        "num_params": format_estimate(p.num_params_estimate, format_count),
        "num_tokens": format_estimate(p.num_tokens_estimate, format_count),
        "loss": format_estimate(p.loss_estimate, format_loss),
        "tested": laws.is_tested(p.compute),
    }


def _scope(laws: ScalingLaws) -> dict[str, str]:
    """Title and first line of the page."""
    sizes = laws.runs.num_params
    return {
        "name": laws.runs.name,
        "scope": f"{count_of(len(laws.runs), 'run')} at {count_of(len(laws.isoflop_curves), 'budget')} up to "
        f"{format_flops(laws.max_compute)} FLOPs, N from {format_count(float(sizes.min()))} to "
        f"{format_count(float(sizes.max()))}; {count_of(len(laws.runs_excluded), 'run')} excluded.",
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    environment.filters["unbroken"] = _unbroken
    return environment


def _cell(value: str | Cell) -> Cell:
    """Plain text as a cell; long text gets a width of its own."""
    cell = value if isinstance(value, Cell) else Cell(text=value)
    is_long = len(cell.text) > 34 and not cell.css_class and not cell.is_code
    return Cell(text=cell.text, css_class="words") if is_long else cell


def _unbroken(text: str) -> str:
    """Lets a line end before an interval, and not inside it."""
    return re.sub(r"\[(\S+) (\S+)\]", "[\\1\N{NO-BREAK SPACE}\\2]", text)
