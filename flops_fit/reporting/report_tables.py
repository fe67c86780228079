"""The rows of the report's tables, as text."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from flops_fit.fitting import Estimate, ScalingLaws
from flops_fit.quantities import format_count, format_flops
from flops_fit.records import Finding, RunResult, SweepPlan
from flops_fit.reporting.table import predict_rows, table_row
from flops_fit.reporting.wording import (
    format_bounds,
    format_factor,
    format_fitted,
    format_loss,
    format_number,
    law_title,
)

LEVELS = ("error", "warning", "info")
CHINCHILLA = ("E", "A", "B", "alpha", "beta")
SHOWN_REJECTIONS = 30
PACKAGES = ("flops-fit", "numpy", "scipy", "matplotlib")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A header and rows of text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int | None = None
    """Row that stands out."""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run of the report's list."""

    run_id: str
    cells: tuple[str, ...]
    status: str
    reason: str
    linked: bool


def finding_rows(laws: ScalingLaws) -> tuple[Finding, ...]:
    """Findings, the gravest first."""
    return tuple(sorted(laws.findings, key=lambda f: LEVELS.index(f.level)))


def prediction_rows(laws: ScalingLaws) -> Table:
    """One row per budget: extrapolation, N, D and loss with the parts of their intervals, and the baseline."""
    header = (
        "C (FLOPs)", "beyond the fit", "quantity", "optimum", "interval", "from noise", "from form", "at D/N = 20",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for p in () if laws.recommended is None else predict_rows(laws):
        quantities = (
            ("N", p.num_params_estimate, format_count, p.baseline.num_params),
            (f"D ({laws.runs.data_unit})", p.num_tokens_estimate, format_count, p.baseline.num_tokens),
            ("loss", p.loss_estimate, format_loss, p.baseline.loss),
        )
        reach = "within" if p.extrapolation_factor <= 1.001 else format_factor(p.extrapolation_factor)
        first = (table_row(laws, p)[0], reach)
        for i, (name, estimate, write, baseline) in enumerate(quantities):
            at_rule = "-" if baseline is None else write(baseline)
            rows.append((*(first if i == 0 else ("", "")), name, *_parts(estimate, write), at_rule))
    return Table(header=header, rows=tuple(rows))


def _parts(estimate: Estimate, write: Any) -> tuple[str, ...]:
    intervals = (estimate.interval, estimate.statistical_interval, estimate.form_interval)
    return (write(estimate.value), *(format_bounds(*interval, write) for interval in intervals))


def law_tables(laws: ScalingLaws) -> tuple[Table, Table]:
    """Exponents and outcome of every law, and the parameters of those that have them."""
    fits = list(laws.laws.values())
    names = [law.name for law in fits]
    marked = names.index(laws.recommended) if laws.recommended in names else None
    exponents = Table(
        header=("law", "a", "b", "outcome", "runs", "what was found"),
        rows=tuple(
            (law_title(f.name), format_fitted(f.a), format_fitted(f.b), f.outcome.replace("_", " "),
             str(f.num_runs), f.reason)
            for f in fits
        ),
        marked=marked,
    )  # fmt: skip
    parametric = [f for f in fits if set(CHINCHILLA) & set(f.parameters)]
    parameters = Table(
        header=("law", *CHINCHILLA, "others"),
        rows=tuple(
            (
                law_title(f.name),
                *(format_fitted(f.parameters.get(name)) for name in CHINCHILLA),
                ", ".join(f"{k} = {format_number(v.value)}" for k, v in f.parameters.items() if k not in CHINCHILLA),
            )
            for f in parametric
        ),
    )
    return exponents, parameters


def parameter_count_table(laws: ScalingLaws) -> Table:
    """Exponent and size under each way of counting; empty where there is only one."""
    words = {
        "total": "all parameters",
        "non_embedding": "without embeddings",
        "kaplan": "without embeddings, C = 6 N D",
    }
    rows = tuple(
        (words.get(c.name, c.name), format_fitted(c.a), format_fitted(c.num_params_at_top, format_count),
         format_flops(c.compute_at_top))
        for c in laws.parameter_counts
    )  # fmt: skip
    return Table(
        header=("N counts", "a", "optimal N at the largest budget", "its C"), rows=rows if len(rows) > 1 else ()
    )


def unexcluded_table(laws: ScalingLaws) -> Table:
    """Exponents with outliers and repeated data left in; empty where none was left out."""
    fits = laws.laws_without_exclusions.values()
    rows = tuple((law_title(f.name), format_fitted(f.a), format_fitted(f.b), str(f.num_runs)) for f in fits)
    return Table(header=("law", "a", "b", "runs"), rows=rows)


def backtest_table(laws: ScalingLaws) -> Table:
    """Per law: root mean square and worst error on hidden budgets, and how often its interval held."""
    rows = []
    for name in dict.fromkeys(r.law for r in laws.backtest):
        mine = [r for r in laws.backtest if r.law == name]
        n = [r.log_n_opt_error for r in mine if r.log_n_opt_error is not None]
        loss = [r.log_loss_error for r in mine if r.log_loss_error is not None]
        rows.append(
            (
                law_title(name),
                str(len(mine)),
                format_factor(float(np.exp(np.sqrt(np.mean(np.square(n)))))) if n else "-",
                format_factor(float(np.exp(np.max(np.abs(n))))) if n else "-",
                f"{100 * np.expm1(np.sqrt(np.mean(np.square(loss)))):.2f} %" if loss else "-",
                _share([r.n_opt_covered for r in mine]),
                _share([r.loss_covered for r in mine]),
            )
        )
    header = (
        "law",
        "hidden budgets",
        "typical error of N",
        "worst",
        "typical error of loss",
        "N covered",
        "loss covered",
    )
    return Table(header=header, rows=tuple(rows))


def _share(covered: Sequence[bool | None]) -> str:
    known = [c for c in covered if c is not None]
    return f"{sum(known)} of {len(known)}" if known else "-"


def run_rows(laws: ScalingLaws, results: Sequence[RunResult] | None) -> tuple[RunRow, ...]:
    """Every run that entered, and of a sweep's results also those that did not."""
    runs, known = laws.runs, {r.experiment.experiment_id: r for r in results or ()}
    rows = []
    for i, source in enumerate(runs.source):
        result = known.pop(source, None)
        cells = (
            format_flops(float(runs.compute_budget[i])), format_count(float(runs.num_params[i])),
            f"{runs.num_tokens[i]:,.0f}", f"{runs.loss[i]:.4f}", runs.condition[i],
        )  # fmt: skip
        rows.append(RunRow(run_id=source, cells=cells, status="used", reason="", linked=result is not None))
    excluded = {e.source: e.reason for e in laws.runs_excluded}
    for run_id, r in known.items():
        e = r.experiment
        loss = "-" if r.loss is None else f"{r.loss:.4f}"
        cells = (format_flops(e.compute_budget), format_count(e.num_params), f"{r.tokens_seen:,}", loss, "")
        reason = r.reason or excluded.get(run_id, "")
        rows.append(RunRow(run_id=run_id, cells=cells, status=r.status, reason=reason, linked=True))
    return tuple(rows)


def rejection_rows(plan: SweepPlan | None) -> tuple[tuple[str, str, str], ...]:
    """The first cells that the plan left out, and why."""
    if plan is None:
        return ()
    return tuple(
        (str(r.size_param_value), format_flops(r.compute_budget), r.reason) for r in plan.rejected[:SHOWN_REJECTIONS]
    )


def provenance_rows(
    laws: ScalingLaws, plan: SweepPlan | None, provenance: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    """Where the numbers come from: names, conventions of counting, options, versions."""
    rows = [("runs", laws.runs.name or "unnamed"), ("data unit", laws.runs.data_unit)]
    if plan is not None:
        rows += [
            ("task", f"{plan.task_name} ({plan.task_fingerprint})"),
            ("model", f"{plan.model_cls_name}, sized by {plan.size_param}"),
            ("FLOPs convention", plan.flops_convention),
        ]
    rows.append(("C", "training FLOPs, forward and backward: " + _flops_words(laws)))
    rows.append(("N", "all parameters, embeddings included, shared ones once"))
    rows.append(("D", f"training {laws.runs.data_unit} seen, repeats included"))
    rows.append(("loss", "mean held-out loss at the end of the finished schedule, nats"))
    rows += [(str(key), str(value)) for key, value in provenance.items()]
    rows.append(("fit options", ", ".join(f"{k}={v}" for k, v in vars(laws.options).items())))
    rows.append(
        ("versions", ", ".join(f"{p} {_version(p)}" for p in PACKAGES) + f", Python {platform.python_version()}")
    )
    return tuple(rows)


def _flops_words(laws: ScalingLaws) -> str:
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
