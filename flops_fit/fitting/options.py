"""Options of a fit."""

from dataclasses import dataclass
from typing import Literal

from flops_fit.errors import ConfigError

Objective = Literal["huber_log", "squared_log", "squared"]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Settings of `fit`. `backtest/recommendation.py` holds the evidence for the defaults."""

    level: float = 0.9
    """Nominal coverage of every interval."""
    num_bootstraps: int = 300
    """Resamples of the runs, each with its own global search."""
    seed: int = 0
    """Of the resampling."""
    law: str | None = None
    """Name of the law to recommend, whatever the evidence; None lets the evidence decide."""
    objective: Objective = "huber_log"
    """What Approach 3 minimises: Huber of log loss, squared log loss, or squared loss."""
    huber_delta: float = 1e-3
    """Where Huber turns from squared to absolute, in log loss (Hoffmann et al. 2022 use 1e-3)."""
    near_optimum: float = 0.1
    """Windowed Approach 3 takes runs whose loss is at most this share above their budget's best."""
    near_minima: float = 0.03
    """The same for the extended law, where runs farther off follow another law, and for Farseer's; noise widens it."""
    compute_weight: float = 0.25
    """Laws fitted near the optimum weight a run by (C / mean C) to this power: large budgets matter most."""
    size_window: float = 4.0
    """Approach 2's parabola takes sizes within this factor of the budget's best size."""
    exponent_drift_sd: float | None = None
    """Extended law: sd of ln alpha and ln beta along N and D; None learns it from the runs."""
    interaction_prior_sd: float | None = None
    """Extended law: sd of the prior on ln k, the interaction of the two terms; None learns it from the runs."""
    short_run_prior_sd: float | None = None
    """Extended law: sd of the prior on h, the excess loss of short runs; None learns it from the runs."""
    exponent_prior_sd: float = 0.5
    """Extended law: sd of the prior on ln alpha and ln beta around ln 0.35."""
    slope_prior_sd: float | None = None
    """Extended law: sd of a prior ln alpha = ln beta, that is a = 1/2. It holds for text; None is off."""
    learning_rates: Literal["best", "all"] = "best"
    """Of runs that differ in nothing but the learning rate, keep the best one or all."""
    exclude_outliers: bool = True
    """Leave out runs whose loss stands far above every fitted curve (they are listed)."""
    outlier_threshold: float = 8.0
    """How many robust standard deviations above the curve is far."""
    max_hidden_budgets: int = 3
    """Backtests hold out the top 1, 2, ... budgets, up to this many; 0 turns them off."""
    form_sd: float | None = None
    """Prior median of the model-form sd of log10 N_opt, times (0.3 + log10 extrapolation); None: published sweeps'."""
    loss_form_sd: float | None = None
    """The same for log10 loss."""

    def __post_init__(self) -> None:
        """Refuses settings out of range."""
        _check("level", self.level, 0.0 < self.level < 1.0, "a number between 0 and 1")
        _check("num_bootstraps", self.num_bootstraps, self.num_bootstraps >= 20, "at least 20")
        _check("huber_delta", self.huber_delta, self.huber_delta > 0, "a positive number")
        _check("near_optimum", self.near_optimum, self.near_optimum > 0, "a positive number")
        _check("near_minima", self.near_minima, self.near_minima > 0, "a positive number")
        _check("size_window", self.size_window, self.size_window > 1, "a factor above 1")
        _check("max_hidden_budgets", self.max_hidden_budgets, self.max_hidden_budgets >= 0, "0 or more")
        _check("outlier_threshold", self.outlier_threshold, self.outlier_threshold > 0, "a positive number")
        _check("exponent_prior_sd", self.exponent_prior_sd, self.exponent_prior_sd > 0, "a positive number")
        optional = ("exponent_drift_sd", "interaction_prior_sd", "short_run_prior_sd", "slope_prior_sd")
        for name in (*optional, "form_sd", "loss_form_sd"):
            sd = getattr(self, name)
            _check(name, sd, sd is None or sd > 0, "a positive number, or null")


def _check(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"fit.{name}: got {value!r}, expected {expected}.")
