"""IsoFLOP budgets of runs that do not state them."""

import numpy as np
from numpy.typing import NDArray

from flops_fit.records import Finding, FloatArray

# Digitised or measured budgets scatter by some percent; planned ones are at least this far apart.
BUDGET_WIDTH = 0.15
EXACT, APART = 0.002, 0.02


def assign_budgets(compute: FloatArray) -> tuple[FloatArray, list[Finding]]:
    """Finds the IsoFLOP budgets of runs that do not state them: the one rule for what a budget is.

    Where at least half of the runs share their C with two others (to 0.2 %), and such values stand apart, they are
    taken as planned.
    Otherwise C scatter around their budgets: runs are split at the widest gaps until each budget spans at most 15 %.

    Args:
        compute: C of each run, shape (n,), positive.

    Returns:
        The budget of each run (geometric mean of its members), shape (n,), and a finding where values were grouped.
    """
    order = np.argsort(compute, kind="stable")
    logs = np.log(compute[order])
    exact = _label(logs, np.log1p(EXACT))
    sizes = np.bincount(exact)
    shared = np.flatnonzero(sizes >= 3)
    # Among very many runs of any C, some always share it.
    between = np.diff(logs[np.searchsorted(exact, shared)])
    apart = len(between) == 0 or float(np.median(between)) > np.log1p(APART)
    planned = bool(sizes[shared].sum() >= 0.5 * len(logs)) and apart
    labels = exact if planned else _label(logs, np.log1p(BUDGET_WIDTH))
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    means = np.exp(np.add.reduceat(logs, starts) / np.bincount(labels))
    # A budget of equal values is that value, without the rounding of exp and log.
    firsts = compute[order][starts]
    means = np.where(np.isclose(means, firsts, rtol=1e-12, atol=0), firsts, means)
    budget = np.empty(len(compute))
    budget[order] = means[labels]
    if planned or len(starts) == len(compute):
        return budget, []
    widest = float(np.max(np.abs(np.log(compute / budget))))
    return budget, [
        Finding(
            level="info",
            code="budgets_grouped",
            message=f"the file states no budgets: {len(compute)} runs were grouped into {len(starts)} by their C, "
            f"which differ by up to {np.expm1(widest):.0%} from their budget.",
            advice="Add a compute_budget column with the planned budgets where they are known.",
        )
    ]


def _label(logs: FloatArray, width: float) -> NDArray[np.int64]:
    """Labels sorted values 0, 1, ...: split at the widest gaps until each label spans at most ``width``."""
    values, inverse = np.unique(logs, return_inverse=True)
    cuts, todo = [], [(0, len(values))]
    gaps = np.diff(values)
    while todo:
        start, end = todo.pop()
        if values[end - 1] - values[start] > width:
            cut = start + 1 + int(np.argmax(gaps[start : end - 1]))
            cuts.append(cut)
            todo += [(start, cut), (cut, end)]
    marks = np.zeros(len(values), dtype=np.int64)
    marks[cuts] = 1
    return np.asarray(np.cumsum(marks)[inverse])
