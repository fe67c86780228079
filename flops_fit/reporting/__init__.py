"""Reporting: a fit as text, a table, figures, an HTML report, and in a notebook; each begins with the verdict.

The report's figures and tables are one list, `sections.SECTIONS`; how numbers are written is in `quantities.py`.
Matplotlib and jinja2 are imported by the calls that draw or fill a template, so that text stays fast.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flops_fit.fitting import ScalingLaws
from flops_fit.records import RunResult, SweepPlan
from flops_fit.reporting.evidence import Evidence
from flops_fit.reporting.optima_table import chinchilla_table
from flops_fit.reporting.summary import format_summary

__all__ = ["chinchilla_table", "format_summary", "save_figures", "summary_html", "write_report"]


def save_figures(laws: ScalingLaws, directory: Path) -> tuple[Path, ...]:
    """Writes every figure into ``directory`` as SVG and PNG and returns the paths."""
    from flops_fit.reporting.sections import save_figures as save

    return save(laws, directory)


def write_report(
    laws: ScalingLaws,
    path: Path,
    *,
    plan: SweepPlan | None = None,
    results: Sequence[RunResult] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the evidence as one self-contained HTML file.

    Args:
        laws: What `fit` found.
        path: Where to write.
        plan: The sweep, for the (size, budget) pairs that it rejected; None for runs of unknown plan.
        results: Outcomes of its runs, so that rows link to ``results/`` and ``runs/`` beside the report's folder.
        provenance: What else to state about the origin, by name.
    """
    from flops_fit.reporting.report import write_report as write

    return write(Evidence(laws=laws, plan=plan, results=results, provenance=provenance or {}), path)


def summary_html(laws: ScalingLaws) -> str:
    """A short HTML fragment with the verdict, the answer and the table, for notebooks."""
    from flops_fit.reporting.report import summary_html as fragment

    return fragment(laws)
