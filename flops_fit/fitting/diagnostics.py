"""What must a reader know before believing a number?"""

from flops_fit.fitting.choice import Choice
from flops_fit.fitting.methods import Methods
from flops_fit.fitting.outcomes import RolloutRow
from flops_fit.records import Finding, RunTable


def find_doubts(runs: RunTable, methods: Methods, choice: Choice, rows: tuple[RolloutRow, ...]) -> tuple[Finding, ...]:
    """Collects every finding about the sweep, its curves and its laws."""
    return (*_about_budgets(methods), *_about_curves(methods), *_about_columns(methods))


def _about_budgets(methods: Methods) -> list[Finding]:
    curves = methods.curves
    usable = sum(c.n_opt is not None for c in curves)
    if usable >= 5:
        return []
    return [
        Finding(
            level="warning" if usable >= 3 else "error",
            code="few_budgets",
            message=f"{usable} of {len(curves)} budgets have a believable minimum; an exponent needs 5.",
            advice="Add budgets, or sizes around the minima that were refused.",
        )
    ]


def _about_curves(methods: Methods) -> list[Finding]:
    found = []
    for curve in methods.curves:
        if curve.reason is None:
            continue
        code = "few_sizes"
        if "beyond" in curve.reason:
            code = "optimum_at_edge"
        elif "bends" in curve.reason:
            code = "negative_curvature"
        found.append(
            Finding(
                level="warning",
                code=code,
                message=f"Budget {curve.compute_budget:.3g} FLOPs: {curve.reason}.",
                advice="Its minimum enters no line; add sizes there.",
            )
        )
    return found


def _about_columns(methods: Methods) -> list[Finding]:
    found = []
    for name, column in (("N", methods.columns.log_n), ("D", methods.columns.log_d)):
        if column.max() - column.min() < 1e-3:
            found.append(
                Finding(
                    level="error",
                    code="constant_d" if name == "D" else "constant_n",
                    message=f"{name} is the same in all runs.",
                    advice="Train several sizes at several budgets: a law needs both to vary.",
                )
            )
    return found
