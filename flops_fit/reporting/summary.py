"""Summary of a fit at a terminal: the verdict and its reasons, the prediction, the laws, the findings, the runs."""

from collections.abc import Sequence

from flops_fit.fitting import LawFit, Prediction, ScalingLaws, method_phrase, method_title
from flops_fit.quantities import (
    count_of,
    format_count,
    format_factor,
    format_flops,
    format_loss,
    format_number,
    format_percent,
)
from flops_fit.records import Finding
from flops_fit.reporting.formatting import format_estimate, format_fitted, rule_note, slope_note
from flops_fit.reporting.tables import CHINCHILLA, LEVELS, is_parametric
from flops_fit.reporting.terminal import Terminal, detect_terminal

SHOWN_EXCLUDED = 8
STYLES = {"ok": "bold green", "care": "bold yellow", "no": "bold red"}


def format_summary(
    laws: ScalingLaws, prediction: Prediction | None, *, width: int | None = None, color: bool | None = None
) -> str:
    """Writes whether to use the answer and why, then the numbers and what they rest on.

    Args:
        laws: What `fit` found.
        prediction: One budget's prediction; None leaves it out.
        width: In columns; None takes the terminal's.
        color: Whether to write colour codes; None asks the terminal.
    """
    terminal = detect_terminal(width, color)
    parts = [_verdict(terminal, laws, prediction), _recommendation(terminal, laws)]
    if prediction is not None:
        parts.append(_prediction(terminal, laws, prediction))
    parts += [_laws(terminal, laws), _findings(terminal, laws, prediction), _runs(terminal, laws)]
    return "\n\n".join(part for part in parts if part)


def _verdict(terminal: Terminal, laws: ScalingLaws, prediction: Prediction | None) -> str:
    """Errors in full, for they are the answer then; warnings in a line each, with the full text below."""
    trust = (prediction.trust if prediction is not None else None) or laws.trust
    lines = [terminal.wrap(trust.headline, style=STYLES[trust.level])]
    for finding in trust.reasons:
        if trust.level == "no":
            lines.append(terminal.wrap(f"{finding.code}: {finding.message} {finding.advice}", indent=2))
        else:
            lines.append(terminal.one_line(f"{finding.code}: {finding.message}"))
    if trust.level == "no" and laws.recommended is not None:
        lines += ["", "For reference only, the fit gives:"]
    return "\n".join(lines)


def _recommendation(terminal: Terminal, laws: ScalingLaws) -> str:
    if laws.recommended is None:
        return ""
    law = laws.laws[laws.recommended]
    return "\n".join(
        [
            f"N_opt ~ C^a with a = {format_fitted(law.a)}",
            f"D_opt ~ C^b with b = {format_fitted(law.b)}",
            terminal.wrap(f"Recommended law: {law.name} ({laws.reason})."),
        ]
    )


def _prediction(terminal: Terminal, laws: ScalingLaws, p: Prediction) -> str:
    baseline = p.baseline
    rows = [
        ("N, parameters", format_estimate(p.num_params_estimate, format_count), format_count(baseline.num_params)),
        (f"D, {laws.runs.data_unit}", format_estimate(p.num_tokens_estimate, format_count),
         format_count(baseline.num_tokens)),
        ("D/N", format_estimate(p.tokens_per_param_estimate, format_number), format_number(baseline.tokens_per_param)),
        ("loss, nats", format_estimate(p.loss_estimate, format_loss), format_loss(baseline.loss)),
    ]  # fmt: skip
    header = ("", f"optimum [{format_percent(p.level)} interval]", f"at D/N = {baseline.tokens_per_param:g}")
    return "\n".join(
        [
            f"At C = {format_flops(p.compute)} FLOPs, by {method_phrase(p.answered_by)}:",
            terminal.table(header, rows),
            terminal.wrap(f"{_reach(laws, p)} {slope_note(laws, p)}{rule_note(laws)}"),
            terminal.wrap(f"Intervals: {p.interval_basis}."),
        ]
    )


def _reach(laws: ScalingLaws, p: Prediction) -> str:
    if p.extrapolation_factor <= 1.001:
        return "Within the fitted budgets."
    text = f"{format_factor(p.extrapolation_factor)} the largest fitted budget"
    tested = laws.tested_factor
    if laws.is_tested(p.compute):
        return f"{text}; the backtests reach {format_factor(tested)}."
    if tested <= 1.0:
        return f"{text}; no backtest tested any extrapolation."
    return f"{text}; the backtests reach only {format_factor(tested)}."


def _laws(terminal: Terminal, laws: ScalingLaws) -> str:
    fitted = [law for law in laws.laws.values() if law.a is not None]
    names = [law.name for law in fitted]
    level = format_percent(laws.options.level)
    header = ("law", "method", f"a [{level}]", f"b [{level}]", "outcome", "runs")
    rows = [
        (_starred(laws, law), method_title(law.name), format_fitted(law.a), format_fitted(law.b),
         law.outcome.replace("_", " "), str(law.num_runs))
        for law in fitted
    ]  # fmt: skip
    marked = names.index(laws.recommended) if laws.recommended in names else None
    lines = ["Laws (* recommended; predict --law NAME uses another):"] if fitted else ["Laws:"]
    if fitted:
        lines.append(terminal.table(header, rows, optional=("method",), marked=marked))
    lines += [
        terminal.wrap(f"{law.name}: not fitted; {law.reason}", indent=2) for law in laws.laws.values() if law.a is None
    ]
    parametric = [law for law in fitted if is_parametric(law)]
    if parametric:
        cells = [
            (_starred(laws, law), *(format_fitted(law.parameters.get(name)) for name in CHINCHILLA))
            for law in parametric
        ]
        lines += ["", "L = E + A/N^alpha + B/D^beta:", terminal.table(("law", *CHINCHILLA), cells)]
    return "\n".join(lines)


def _starred(laws: ScalingLaws, law: LawFit) -> str:
    return law.name + (" *" if law.name == laws.recommended else "")


def _findings(terminal: Terminal, laws: ScalingLaws, prediction: Prediction | None) -> str:
    findings: Sequence[Finding] = (*laws.findings, *(prediction.findings if prediction else ()))
    ranked = sorted(findings, key=lambda f: LEVELS.index(f.level))
    lines = [terminal.wrap(f"{f.level} ({f.code}): {f.message} {f.advice}", indent=2) for f in ranked]
    return "\n".join(["Findings:", *lines]) if lines else "Findings: none."


def _runs(terminal: Terminal, laws: ScalingLaws) -> str:
    excluded = laws.runs_excluded
    budgets = len(laws.isoflop_curves)
    text = f"{count_of(len(laws.runs), 'run')} used at {count_of(budgets, 'budget')}, {len(excluded)} excluded"
    lines = [f"{text}{':' if excluded else '.'}"]
    lines += [terminal.wrap(f"{run.source} ({run.code}): {run.reason}", indent=2) for run in excluded[:SHOWN_EXCLUDED]]
    if len(excluded) > SHOWN_EXCLUDED:
        lines.append(f"  ... and {len(excluded) - SHOWN_EXCLUDED} more (--json lists all)")
    return "\n".join(lines)
