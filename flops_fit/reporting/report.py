"""One HTML file with the answer, the evidence and a way back from every number to its run."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from flops_fit.files import replace_file
from flops_fit.fitting import ScalingLaws
from flops_fit.quantities import format_count, format_flops
from flops_fit.records import RunResult, SweepPlan
from flops_fit.reporting.figure_files import draw
from flops_fit.reporting.report_tables import (
    backtest_table,
    finding_rows,
    law_tables,
    parameter_count_table,
    prediction_rows,
    provenance_rows,
    rejection_rows,
    run_rows,
    unexcluded_table,
)
from flops_fit.reporting.table import HEADER, predict_rows, table_notes, table_row
from flops_fit.reporting.wording import format_estimate, format_fitted, format_loss, law_title

TARGET_FACTOR = 10
"""The answer comes first for this many times the largest fitted budget."""
CAPTIONS = {
    "isoflop": "IsoFLOP curves: held-out loss against model size at each compute budget, with the parabola through "
    "the runs in its window and its minimum with interval. Hollow points are outside the window; a dotted parabola "
    "has no usable minimum.",
    "n_opt": "Compute-optimal model size against training compute, by the recommended law.",
    "d_opt": "Compute-optimal training data against training compute, by the recommended law.",
    "loss": "Loss at the optimum against training compute, by the recommended law.",
    "backtest": "What each law, fitted to the smaller budgets only, predicted for the hidden larger ones, "
    "against what was then observed.",
    "residuals": "Loss of every run above what the law expects at its N and D.",
}


def write_report(
    laws: ScalingLaws,
    path: Path,
    *,
    plan: SweepPlan | None,
    results: Sequence[RunResult] | None,
    provenance: Mapping[str, Any],
) -> Path:
    """Writes the report; see `flops_fit.reporting.write_report`."""
    figures = {d.name: _data_uri(d.svg) for d in draw(laws)}
    html = _environment().get_template("report.html.j2").render(
        **_answer(laws),
        figures=figures,
        captions=CAPTIONS,
        predictions=prediction_rows(laws),
        law_tables=law_tables(laws),
        parameter_counts=parameter_count_table(laws),
        unexcluded=unexcluded_table(laws),
        backtest=backtest_table(laws),
        runs=run_rows(laws, results),
        linked=results is not None,
        excluded=laws.runs_excluded,
        rejected=rejection_rows(plan),
        num_rejected=0 if plan is None else len(plan.rejected),
        plan=plan,
        provenance=provenance_rows(laws, plan, provenance),
    )  # fmt: skip
    replace_file(path, html.encode())
    return path


def summary_html(laws: ScalingLaws) -> str:
    """The answer and the table as an HTML fragment."""
    return _environment().get_template("summary.html.j2").render(**_answer(laws))


def _answer(laws: ScalingLaws) -> dict[str, Any]:
    law = None if laws.recommended is None else laws.laws[laws.recommended]
    predictions = () if law is None else predict_rows(laws)
    return {
        "name": laws.runs.name,
        "data_unit": laws.runs.data_unit,
        "trust": laws.trust,
        "law": None if law is None else law_title(law.name),
        "reason": laws.reason,
        "a": None if law is None else format_fitted(law.a),
        "b": None if law is None else format_fitted(law.b),
        "target": None if law is None else _target(laws),
        "target_factor": TARGET_FACTOR,
        "level": f"{laws.options.level:.0%}",
        "header": HEADER,
        "rows": [table_row(laws, p) for p in predictions],
        "note": " ".join(table_notes(laws, predictions)),
        "basis": predictions[0].interval_basis if predictions else "",
        "findings": finding_rows(laws),
        "num_runs": len(laws.runs),
        "num_budgets": len(laws.isoflop_curves),
        "num_excluded": len(laws.runs_excluded),
        "max_compute": format_flops(laws.max_compute),
        "total_compute": format_flops(float(laws.runs.compute.sum())),
        "sizes": f"{format_count(float(laws.runs.num_params.min()))} to "
        f"{format_count(float(laws.runs.num_params.max()))}",
    }


def _target(laws: ScalingLaws) -> dict[str, Any]:
    """The prediction that the first sentence states."""
    p = laws.predict(TARGET_FACTOR * laws.max_compute)
    return {
        "compute": format_flops(p.compute),
        "num_params": format_estimate(p.num_params_estimate, format_count),
        "num_tokens": format_estimate(p.num_tokens_estimate, format_count),
        "loss": format_estimate(p.loss_estimate, format_loss),
        "tested": laws.is_tested(p.compute),
    }


def _data_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    return environment


def _unbroken(cell: str) -> str:
    """Lets a line end before an interval, and not inside it."""
    return re.sub(r"\[(\S+) (\S+)\]", "[\\1\N{NO-BREAK SPACE}\\2]", cell)
