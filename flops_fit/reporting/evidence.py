"""Evidence and tables: what a report is made of, and the form in which its tables reach the template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flops_fit.fitting import Prediction, ScalingLaws
from flops_fit.records import RunResult, SweepPlan
from flops_fit.reporting.optima_table import predict_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """A fit and its origin. Every table of the report is made of it; figures need the fit alone."""

    laws: ScalingLaws
    plan: SweepPlan | None = None
    """None for runs of unknown plan."""
    results: Sequence[RunResult] | None = None
    """Outcomes of the plan's runs; None for runs that someone else trained."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What else to state of the origin, by name."""

    @cached_property
    def predictions(self) -> tuple[Prediction, ...]:
        """Of the recommended law at the budgets of the table; empty where no law is recommended."""
        return () if self.laws.recommended is None else predict_rows(self.laws)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Text that is more than text."""

    text: str
    links: tuple[tuple[str, str], ...] = ()
    """(label, address) of links after the text."""
    is_code: bool = False
    """Whether it is a name from the code or an id, set in fixed width."""
    css_class: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A header and rows; plain text where a cell needs no more."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    note: str = ""
    """What only these rows need explained; what every such table needs stands in its caption."""
    marked: int | None = None
    """Row that stands out."""
