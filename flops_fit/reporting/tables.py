"""Tables of what was fitted: findings, predictions, laws, parameter counts, backtests. None where there is no row."""

from collections.abc import Callable, Sequence

import numpy as np

from flops_fit.fitting import Estimate, LawFit, method_title
from flops_fit.quantities import (
    format_count,
    format_factor,
    format_flops,
    format_interval,
    format_loss,
    format_number,
    format_percent,
)
from flops_fit.reporting.evidence import Cell, Evidence, Table
from flops_fit.reporting.formatting import backtested_names, format_fitted, rule_note, slope_note
from flops_fit.reporting.optima_table import table_notes, table_row

LEVELS = ("error", "warning", "info")
CHINCHILLA = ("E", "A", "B", "alpha", "beta")
"""Parameters that most laws of L(N, D) share, by their names in `fit --json`."""
COUNTS = {
    "total": "all parameters",
    "non_embedding": "without embeddings",
    "kaplan": "without embeddings, C = 6 N D",
}


def finding_table(evidence: Evidence) -> Table | None:
    """Findings with their codes, the most severe first."""
    findings = sorted(evidence.laws.findings, key=lambda f: LEVELS.index(f.level))
    rows = tuple(
        (Cell(text=f.level, css_class=f.level), Cell(text=f.code, is_code=True), f.message, f.advice) for f in findings
    )
    return _table(("level", "code", "finding", "what to do"), rows)


def prediction_table(evidence: Evidence) -> Table | None:
    """Three rows per budget: N, D and loss with the parts of their intervals, and the baseline."""
    laws, predictions = evidence.laws, evidence.predictions
    header = (
        "C (FLOPs)", "extrapolation", "quantity", "optimum", "interval", "statistical", "model-form", "at D/N = 20",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for p in predictions:
        quantities: tuple[tuple[str, Estimate, Callable[..., str], float | None], ...] = (
            ("N", p.num_params_estimate, format_count, p.baseline.num_params),
            (f"D ({laws.runs.data_unit})", p.num_tokens_estimate, format_count, p.baseline.num_tokens),
            ("loss", p.loss_estimate, format_loss, p.baseline.loss),
        )
        reach = "within" if p.extrapolation_factor <= 1.001 else format_factor(p.extrapolation_factor)
        first = (table_row(laws, p)[0], reach)
        for i, (name, estimate, write, baseline) in enumerate(quantities):
            intervals = (estimate.interval, estimate.statistical_interval, estimate.form_interval)
            parts = (write(estimate.value), *(format_interval(*interval, write) for interval in intervals))
            rows.append((*(first if i == 0 else ("", "")), name, *parts, write(baseline)))
    farthest = max(predictions, key=lambda p: p.compute, default=None)
    notes: list[str] = []
    if farthest is not None:
        notes = [f"At {format_flops(farthest.compute)} FLOPs {slope_note(laws, farthest)}"]
        notes += [f"Intervals there: {farthest.interval_basis}."]
    return _table(header, tuple(rows), note=" ".join([*notes, rule_note(laws), *table_notes(laws, predictions)]))


def law_table(evidence: Evidence) -> Table | None:
    """Exponents and outcome of every law; the recommended one is marked."""
    laws = evidence.laws
    names = [law.name for law in laws.laws.values()]
    rows = tuple(
        (_name(f.name), method_title(f.name), format_fitted(f.a), format_fitted(f.b), f.outcome.replace("_", " "),
         str(f.num_runs), f.reason)
        for f in laws.laws.values()
    )  # fmt: skip
    return _table(
        ("law", "method", "a", "b", "outcome", "runs", "detail"),
        rows,
        note=f"{format_percent(laws.options.level)} intervals in brackets. "
        f"Recommended: {laws.recommended or 'none'} ({laws.reason}).",
        marked=names.index(laws.recommended) if laws.recommended in names else None,
    )


def parameter_table(evidence: Evidence) -> Table | None:
    """The parameters of the laws of L(N, D)."""
    rows: tuple[tuple[str | Cell, ...], ...] = tuple(
        (_name(f.name), *_parameters(f)) for f in evidence.laws.laws.values() if is_parametric(f)
    )
    return _table(("law", *CHINCHILLA, "others"), rows)


def is_parametric(law: LawFit) -> bool:
    """Whether the law has any of the parameters E, A, B, alpha, beta."""
    return bool(set(CHINCHILLA) & set(law.parameters))


def parameter_count_table(evidence: Evidence) -> Table | None:
    """Exponent and size under each way of counting; None where there is only one."""
    counts = evidence.laws.parameter_counts
    rows = tuple(
        (COUNTS.get(c.name, c.name), format_fitted(c.a), format_fitted(c.num_params_at_top, format_count),
         format_flops(c.compute_at_top))
        for c in counts
    )  # fmt: skip
    return _table(("N counts", "a", "optimal N at the largest budget", "its C"), rows if len(rows) > 1 else ())


def unexcluded_table(evidence: Evidence) -> Table | None:
    """Exponents with outliers and repeated data left in; None where the fit excluded none."""
    fits = evidence.laws.laws_without_exclusions.values()
    rows = tuple((_name(f.name), format_fitted(f.a), format_fitted(f.b), str(f.num_runs)) for f in fits)
    return _table(("law", "a", "b", "runs"), rows)


def backtest_table(evidence: Evidence) -> Table | None:
    """Per law: root mean square and worst error on hidden budgets, and how often its interval held."""
    rows = []
    for name in backtested_names(evidence.laws):
        of_law = [r for r in evidence.laws.backtest if r.law == name]
        n = [r.log_n_opt_error for r in of_law if r.log_n_opt_error is not None]
        loss = [r.log_loss_error for r in of_law if r.log_loss_error is not None]
        rows.append(
            (
                _name(name),
                method_title(name),
                str(len(of_law)),
                format_factor(float(np.exp(_rms(n)))) if n else "-",
                format_factor(float(np.exp(np.max(np.abs(n))))) if n else "-",
                format_percent(float(np.expm1(_rms(loss)))) if loss else "-",
                _coverage([r.n_opt_covered for r in of_law]),
                _coverage([r.loss_covered for r in of_law]),
            )
        )
    header = (
        "law", "method", "hidden budgets", "RMS error of N", "worst error of N", "RMS error of loss", "N covered",
        "loss covered",
    )  # fmt: skip
    return _table(header, tuple(rows))


def _table(
    header: tuple[str, ...], rows: tuple[tuple[str | Cell, ...], ...], *, note: str = "", marked: int | None = None
) -> Table | None:
    return Table(header=header, rows=rows, note=note, marked=marked) if rows else None


def _name(law: str) -> Cell:
    return Cell(text=law, is_code=True)


def _parameters(law: LawFit) -> tuple[str, ...]:
    others = ", ".join(f"{k} = {format_number(v.value)}" for k, v in law.parameters.items() if k not in CHINCHILLA)
    return (*(format_fitted(law.parameters.get(name)) for name in CHINCHILLA), others)


def _rms(errors: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def _coverage(covered: Sequence[bool | None]) -> str:
    known = [c for c in covered if c is not None]
    return f"{sum(known)} of {len(known)}" if known else "-"
