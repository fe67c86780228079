"""What does a fit say, in the order a reader at a terminal needs it?"""

import textwrap
from collections.abc import Sequence

from flops_fit.fitting import LawFit, Prediction, ScalingLaws
from flops_fit.quantities import count_of, format_count, format_flops
from flops_fit.records import Finding
from flops_fit.reporting.wording import (
    format_estimate,
    format_factor,
    format_fitted,
    format_loss,
    format_number,
    law_title,
)

WIDTH = 100
SHOWN_EXCLUDED = 8
PARAMETERS = ("E", "A", "B", "alpha", "beta")


def format_summary(laws: ScalingLaws, prediction: Prediction | None) -> str:
    """Writes the answer and whether to trust it, the prediction, the laws, the findings and the runs.

    Args:
        laws: What `fit` found.
        prediction: One budget's prediction; None leaves it out.
    """
    parts = [_trust(laws, prediction)]
    if prediction is not None:
        parts.append(_prediction(laws, prediction))
    parts += [_laws(laws), _findings((*laws.findings, *(prediction.findings if prediction else ()))), _runs(laws)]
    return "\n\n".join(part for part in parts if part)


def _trust(laws: ScalingLaws, prediction: Prediction | None) -> str:
    trust = prediction.trust if prediction is not None and prediction.trust is not None else laws.trust
    answer = _answer(laws)
    if trust.level != "no":
        return "\n".join(part for part in (answer, _wrap(trust.headline)) if part)
    lines = [_wrap(trust.headline)]
    lines += [_wrap(f"- {f.message} {f.advice}", "  ") for f in trust.reasons]
    if answer:
        lines += ["", "What the fit would say all the same:", answer]
    return "\n".join(lines)


def _answer(laws: ScalingLaws) -> str:
    if laws.recommended is None:
        return ""
    law = laws.laws[laws.recommended]
    return _wrap(
        f"N_opt ~ C^a with a = {format_fitted(law.a)}, D_opt ~ C^b with b = {format_fitted(law.b)}, "
        f"by {law_title(law.name)} ({laws.reason})."
    )


def _prediction(laws: ScalingLaws, p: Prediction) -> str:
    rows = [
        ("N, parameters", format_estimate(p.num_params_estimate, format_count), format_count(p.baseline.num_params)),
        (
            f"D, {laws.runs.data_unit}",
            format_estimate(p.num_tokens_estimate, format_count),
            format_count(p.baseline.num_tokens),
        ),
        (
            "D/N",
            format_estimate(p.tokens_per_param_estimate, format_number),
            format_number(p.baseline.tokens_per_param),
        ),
        ("loss, nats", format_estimate(p.loss_estimate, format_loss), format_loss(p.baseline.loss)),
    ]
    header = ("", f"optimum [{p.level:.0%} interval]", f"at D/N = {p.baseline.tokens_per_param:g}")
    title = f"At C = {format_flops(p.compute)} FLOPs, by {law_title(p.law)}:"
    return "\n".join([title, *_columns(header, rows), _wrap(_reach(laws, p)), _wrap(f"Intervals: {p.interval_basis}.")])


def _reach(laws: ScalingLaws, p: Prediction) -> str:
    if p.extrapolation_factor <= 1.001:
        return "Within the fitted budgets."
    text = f"{format_factor(p.extrapolation_factor)} beyond the largest fitted budget"
    tested = laws.tested_factor
    if laws.is_tested(p.compute):
        return f"{text}; the backtests tested {format_factor(tested)}."
    if tested <= 1.0:
        return f"{text}, and no backtest could test that."
    return f"{text}; the backtests tested only {format_factor(tested)}."


def _laws(laws: ScalingLaws) -> str:
    usable = [law for law in laws.laws.values() if law.a is not None]
    level = f"{laws.options.level:.0%}"
    header = ("law", f"a [{level}]", f"b [{level}]", "outcome", "runs")
    rows = [
        (_starred(laws, law), format_fitted(law.a), format_fitted(law.b), law.outcome, str(law.num_runs))
        for law in usable
    ]
    lines = ["Laws (* recommended):", *_columns(header, rows)]
    parametric = [law for law in usable if set(PARAMETERS) & set(law.parameters)]
    if parametric:
        cells = [
            (law_title(law.name), *(format_fitted(law.parameters.get(name)) for name in PARAMETERS))
            for law in parametric
        ]
        lines += ["", "L = E + A/N^alpha + B/D^beta:", *_columns(("law", *PARAMETERS), cells)]
    lines += [_wrap(f"{law_title(law.name)} gives no number: {law.reason}", "  ")
              for law in laws.laws.values() if law.a is None]  # fmt: skip
    return "\n".join(lines)


def _starred(laws: ScalingLaws, law: LawFit) -> str:
    return law_title(law.name) + (" *" if law.name == laws.recommended else "")


def _findings(findings: Sequence[Finding]) -> str:
    order = ("error", "warning", "info")
    ranked = sorted(findings, key=lambda f: order.index(f.level))
    lines = [_wrap(f"{f.level} ({f.code}): {f.message} {f.advice}", "  ") for f in ranked]
    return "\n".join(["Findings:", *lines]) if lines else "Findings: none."


def _runs(laws: ScalingLaws) -> str:
    excluded = laws.runs_excluded
    budgets = len(laws.isoflop_curves)
    text = f"{count_of(len(laws.runs), 'run')} used at {count_of(budgets, 'budget')}, {len(excluded)} excluded."
    lines = [text, *(_wrap(f"{run.source}: {run.reason}", "  ") for run in excluded[:SHOWN_EXCLUDED])]
    if len(excluded) > SHOWN_EXCLUDED:
        lines.append(f"  ... and {len(excluded) - SHOWN_EXCLUDED} more (--json lists all)")
    return "\n".join(lines)


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ")
