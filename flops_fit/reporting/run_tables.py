"""Tables of where the numbers come from: every run with its files, what was excluded and rejected, provenance."""

import platform
from collections.abc import Container
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import quote

import numpy as np

from flops_fit.fitting import ScalingLaws
from flops_fit.quantities import count_of, format_count, format_flops, format_loss
from flops_fit.reporting.evidence import Cell, Evidence, Table

SHOWN_REJECTIONS = 30
PACKAGES = ("flops-fit", "numpy", "scipy", "matplotlib")


def run_table(evidence: Evidence) -> Table:
    """Every run that entered the fit, and of a sweep's results also those that did not."""
    runs, unused = evidence.laws.runs, {r.experiment.experiment_id: r for r in evidence.results or ()}
    linked = set(unused)
    rows: list[tuple[str | Cell, ...]] = []
    for i, source in enumerate(runs.source):
        unused.pop(source, None)
        rows.append(
            (
                _run_cell(source, linked), format_flops(float(runs.compute_budget[i])),
                format_count(float(runs.num_params[i])), format_count(float(runs.num_tokens[i])),
                format_loss(float(runs.loss[i])), runs.condition[i], "used", "",
            )
        )  # fmt: skip
    excluded = {e.source: e.reason for e in evidence.laws.runs_excluded}
    for source, r in unused.items():
        e = r.experiment
        status = "excluded" if r.status == "completed" else r.status
        rows.append(
            (
                _run_cell(source, linked), format_flops(e.compute_budget), format_count(e.num_params),
                format_count(r.tokens_seen), format_loss(r.loss), "", status, r.reason or excluded.get(source, ""),
            )
        )  # fmt: skip
    header = ("run", "budget (FLOPs)", "N", f"D ({runs.data_unit})", "loss", "condition", "status", "reason")
    return Table(header=header, rows=tuple(rows))


def exclusion_table(evidence: Evidence) -> Table | None:
    """Runs that do not enter the fit, with the code and the reason."""
    linked = {r.experiment.experiment_id for r in evidence.results or ()}
    rows = tuple(
        (_run_cell(run.source, linked), Cell(text=run.code, is_code=True), run.reason)
        for run in evidence.laws.runs_excluded
    )
    return Table(header=("run", "code", "reason"), rows=rows) if rows else None


def rejection_table(evidence: Evidence) -> Table | None:
    """The first (size, budget) pairs that the plan rejected, and why."""
    if evidence.plan is None or not evidence.plan.rejected:
        return None
    rejected = evidence.plan.rejected
    rows = tuple(
        (str(r.size_param_value), "any" if r.compute_budget is None else format_flops(r.compute_budget), r.reason)
        for r in rejected[:SHOWN_REJECTIONS]
    )
    note = f"{count_of(len(rejected), 'pair')} in all"
    if len(rejected) > SHOWN_REJECTIONS:
        note += f", of which the first {SHOWN_REJECTIONS} are listed"
    return Table(header=(evidence.plan.size_param, "budget (FLOPs)", "reason"), rows=rows, note=f"{note}.")


def provenance_table(evidence: Evidence) -> Table:
    """Names, conventions of counting, options, versions."""
    laws, plan = evidence.laws, evidence.plan
    rows = [("runs", laws.runs.name or "unnamed"), ("data unit", laws.runs.data_unit)]
    if plan is not None:
        rows += [
            ("task", f"{plan.task_name} ({plan.task_fingerprint})"),
            ("model", f"{plan.model_cls_name}, sized by {plan.size_param}"),
            ("FLOPs convention", plan.flops_convention),
        ]
    rows += [
        ("C", f"training FLOPs, forward and backward: {_flops_text(laws)}"),
        ("N", "all parameters, embeddings included, shared ones once"),
        ("D", f"training {laws.runs.data_unit} seen, repeats included"),
        ("loss", "mean held-out loss at the end of the finished schedule, nats"),
        *((str(key), str(value)) for key, value in evidence.provenance.items()),
        ("fit options", ", ".join(f"{k}={v}" for k, v in vars(laws.options).items())),
        ("versions", ", ".join(f"{p} {_version(p)}" for p in PACKAGES) + f", Python {platform.python_version()}"),
    ]
    return Table(header=("what", "value"), rows=tuple(rows))


def _run_cell(source: str, linked: Container[str]) -> Cell:
    """A run's id, with links to its record and its files where the report lies beside them."""
    name = quote(source, safe="")
    links = (("result", f"../results/{name}.json"), ("files", f"../runs/{name}/")) if source in linked else ()
    return Cell(text=source, links=links, is_code=True)


def _flops_text(laws: ScalingLaws) -> str:
    if laws.flops.is_six:
        return "6 N D"
    ratios = np.exp(laws.flops.log_ratio)
    if laws.flops.is_constant:
        return f"{ratios[0]:.3g} N D"
    return f"counted; {ratios.min():.3g} to {ratios.max():.3g} N D, depending on N"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
