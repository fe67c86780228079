"""Says what a fit found: as text, a table, figures, a report, and in a notebook.

Matplotlib and jinja2 are imported by the calls that draw or fill a template, so that text stays fast.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flops_fit.fitting import ScalingLaws
from flops_fit.records import RunResult, SweepPlan
from flops_fit.reporting.summary import format_summary
from flops_fit.reporting.table import chinchilla_table

__all__ = ["chinchilla_table", "format_summary", "save_figures", "summary_html", "write_report"]


def save_figures(laws: ScalingLaws, directory: Path) -> tuple[Path, ...]:
    """Writes every figure into ``directory`` as SVG and PNG and returns the paths."""
    from flops_fit.reporting.figure_files import save_figures as save

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
        plan: The sweep, for the cells that it rejected; None for runs of unknown plan.
        results: Outcomes of its runs, so that rows link to ``results/`` and ``runs/`` beside the report's folder.
        provenance: What else to state of the origin, by name.
    """
    from flops_fit.reporting.report import write_report as write

    return write(laws, path, plan=plan, results=results, provenance=provenance or {})


def summary_html(laws: ScalingLaws) -> str:
    """A short HTML fragment with the answer and the table, for notebooks."""
    from flops_fit.reporting.report import summary_html as fragment

    return fragment(laws)
