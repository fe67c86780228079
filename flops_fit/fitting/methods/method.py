"""A fitting method as a value: its name, its fit function, and its role among the others."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.inputs.log_runs import LogRuns
from flops_fit.fitting.methods.result import FittedMethod, LawFit, Minimum
from flops_fit.fitting.options import FitOptions
from flops_fit.records import RunTable

MIN_BUDGETS = 3
"""Two budgets always lie on a line: they give no exponent."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FitInputs:
    """Everything that a method may use."""

    log_runs: LogRuns
    """The runs that plain laws take."""
    minima: tuple[Minimum | None, ...]
    """Of the budgets' IsoFLOP curves; None where a budget has no usable one."""
    options: FitOptions
    rng: np.random.Generator
    """Shared: methods draw from it one after another, in the registry's order."""
    num_resamples: int
    all_runs: RunTable | None
    """Finished runs, those with many epochs and outliers included; None in a backtest."""


@dataclass(frozen=True, kw_only=True)
class NotApplicable:
    """A method that is not meant for such runs, so that it is not listed among the laws."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Method:
    """One entry of the registry."""

    name: str
    """In options, JSON and code: ``law=NAME``."""
    title: str
    """In tables, figures and sentences."""
    fit: Callable[[FitInputs], FittedMethod | LawFit | NotApplicable]
    """A LawFit alone is a refused law, with the reason why it was not fitted."""
    preference: int | None = None
    """Rank by which the default law is chosen, 1 first; None is never chosen by default."""
    stacked: bool = False
    """Whether far outside the runs N_opt is an average that includes it."""
    stacked_loss: bool = False
    """Whether the loss is an average that includes it."""
    has_surface: bool = False
    """Whether it has a loss L(N, D) off the optimum."""
    min_budgets: int = MIN_BUDGETS
    """With fewer budgets of plain runs it is refused without being called."""
    selectable: bool = True
    """Whether users may ask for it by ``law=NAME`` and ``--law NAME``."""
