"""Exclusions: which runs enter a fit. Every run left out is listed with its reason.

In this order: runs that stopped before the end of their schedule, all but the best learning rate of a cell, and
runs that saw their data more than four times: up to there effective tokens hardly depend on their constant
(`inputs/repeats.py`), beyond it the answer would. Outliers are found later, by a fit (`fitting/outliers.py`).
"""

from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.inputs.log_runs import keep_best_learning_rate
from flops_fit.fitting.inputs.repeats import epochs_of
from flops_fit.fitting.options import FitOptions
from flops_fit.records import RunTable

MAX_EPOCHS = 4.0
FINISHED = 0.98
"""Share of its schedule that a run must have completed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The runs that enter, and the table before any run was left out for its loss or epochs."""

    runs: RunTable
    before: RunTable
    """Finished runs with one learning rate per cell: what the fit without exclusions takes."""


def select_for_fit(runs: RunTable, options: FitOptions) -> Selection:
    """Leaves out runs that no law describes. See the module's docstring for the order."""
    if runs.schedule_tokens is not None:
        share = runs.num_tokens / runs.schedule_tokens
        unfinished = np.isfinite(share) & (share < FINISHED)
        reason = "its schedule was set for a longer run, so its loss is not final"
        runs = runs.take(~unfinished, code="unfinished_schedule", reason=reason)
    if options.learning_rates == "best":
        runs = keep_best_learning_rate(runs)
    before = runs
    reason = f"saw its data more than {MAX_EPOCHS:g} times"
    runs = runs.take(epochs_of(runs) <= MAX_EPOCHS, code="too_many_epochs", reason=reason)
    return Selection(runs=runs, before=before)
