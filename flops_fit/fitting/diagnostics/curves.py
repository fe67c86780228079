"""Findings about the IsoFLOP curves: refused minima, flat valleys, and too few budgets."""

from collections.abc import Iterator

import numpy as np

from flops_fit.fitting.methods.approach2 import MIN_SIZES
from flops_fit.fitting.methods.registry import Methods
from flops_fit.fitting.methods.result import CurveCode
from flops_fit.records import Finding

ENOUGH_BUDGETS = 5
"""Three budgets gave the same N_opt and R^2 = 0 (research/requirements.md, F2)."""
MIN_BUDGETS = 3
REFUSALS: tuple[CurveCode, ...] = ("optimum_at_edge", "negative_curvature", "few_sizes", "scattered_curve")
FLAT = 3.0
"""Ratio of the ends of a minimum's interval above which the valley is called flat."""


def diagnose_curves(methods: Methods) -> Iterator[Finding]:
    """Yields findings about curves without a usable minimum."""
    log_runs = methods.log_runs
    if log_runs.is_scattered:
        message = f"The {len(log_runs)} runs are on {log_runs.num_budgets} budgets, most with fewer than three, so "
        message += "there are no IsoFLOP curves and no minimum was observed."
        advice = "Only parametric laws were fitted; their N_opt cannot be tested on these runs."
        yield Finding(level="warning", code="no_isoflop_curves", message=message, advice=advice)
        if log_runs.num_budgets >= MIN_BUDGETS:
            return
    usable = sum(c.n_opt is not None for c in methods.curves)
    if usable < ENOUGH_BUDGETS:
        too_few = log_runs.num_budgets < MIN_BUDGETS
        message = f"{usable} of {len(methods.curves)} budgets have a usable minimum; an exponent needs {ENOUGH_BUDGETS}"
        message += ", and none is taken from fewer than three budgets." if too_few else "."
        advice = "Add budgets, or sizes around the minima that were refused."
        yield Finding(level="error" if too_few else "warning", code="few_budgets", message=message, advice=advice)
    for code in REFUSALS:
        yield from _refused(methods, code)
    flat = [c.compute_budget for c in methods.curves if c.n_opt is not None and c.n_opt.high / c.n_opt.low > FLAT]
    if flat:
        message = f"At {_list(flat)} FLOPs the curve is so flat against its noise that the interval of N_opt spans "
        message += f"more than {FLAT:g}x."
        advice = "Spread the sizes wider, or add seeds; the loss there hardly depends on N."
        yield Finding(level="warning", code="flat_valley", message=message, advice=advice)


def _refused(methods: Methods, code: CurveCode) -> Iterator[Finding]:
    curves = [c for c in methods.curves if c.code == code]
    if not curves:
        return
    budgets: dict[str, list[float]] = {}
    for curve in curves:
        reason = f"fewer than {MIN_SIZES} sizes" if code == "few_sizes" else str(curve.reason)
        budgets.setdefault(reason, []).append(curve.compute_budget)
    yield Finding(
        level="info" if code == "few_sizes" and len(curves) < len(methods.curves) / 2 else "warning",
        code=code,
        message=" ".join(f"At {_list(where)} FLOPs: {reason}." for reason, where in budgets.items()),
        advice="These budgets have no usable minimum. Add sizes there, on the side of the minimum.",
    )


def _list(budgets: list[float]) -> str:
    named = ", ".join(f"{b:.3g}" for b in np.sort(budgets)[:6])
    return named + (f" and {len(budgets) - 6} more" if len(budgets) > 6 else "")
