"""Settings of a sweep: its grid, as plain values, and the sizes that it considers."""

import math
from dataclasses import dataclass, field
from typing import Literal

from flops_fit.errors import ConfigError, PlanError
from flops_fit.planning.feasibility import Limits
from flops_fit.planning.recipe import RecipeRule
from flops_fit.quantities import log_spaced


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """The grid of a sweep (configs/sweep)."""

    compute_budgets: tuple[float, ...] = ()
    """C of each IsoFLOP curve, training FLOPs."""
    num_sizes_per_budget: int = 7
    min_size: int = 64
    max_size: int = 8192
    size_multiple: int = 64
    flops_per_param_per_token: float | Literal["measured"] = 6.0
    """f in C = f N D, or "measured": FLOPs counted on each model."""
    center_tokens_per_param: float = 20.0
    """First guess of the optimal D/N, around which sizes are chosen; it does not enter the fit."""
    half_width: float = 8.0
    """Sizes lie within this factor of the guessed optimal N, if enough of them are feasible."""
    limits: Limits = field(default_factory=Limits)
    recipe: RecipeRule = field(default_factory=RecipeRule)
    num_seeds: int = 1

    def __post_init__(self) -> None:
        checks = {
            "num_sizes_per_budget": (self.num_sizes_per_budget >= 1, "1 or more"),
            "min_size": (self.min_size >= 1, "1 or more"),
            "max_size": (self.max_size >= self.min_size, f"min_size={self.min_size} or more"),
            "size_multiple": (self.size_multiple >= 1, "1 or more"),
            "flops_per_param_per_token": (
                self.flops_per_param_per_token == "measured" or float(self.flops_per_param_per_token) > 0,
                "a positive number or measured",
            ),
            "center_tokens_per_param": (self.center_tokens_per_param > 0, "a positive number"),
            "half_width": (self.half_width > 1, "a factor above 1"),
            "num_seeds": (self.num_seeds >= 1, "1 or more"),
            "compute_budgets": (
                all(c > 0 and math.isfinite(c) for c in self.compute_budgets),
                "positive FLOPs, as [1e18]",
            ),
        }
        for name, (holds, expected) in checks.items():
            if not holds:
                raise ConfigError(f"sweep.{name}: got {getattr(self, name)!r}, expected {expected}.")


def candidate_sizes(settings: SweepSettings) -> list[int]:
    """Returns log-spaced sizes from min_size to max_size, multiples of size_multiple, ascending.

    Raises:
        PlanError: If no multiple lies in the range.
    """
    step = settings.size_multiple
    low = -(-settings.min_size // step) * step
    high = settings.max_size // step * step
    if low > high:
        raise PlanError(
            f"no multiple of size_multiple={step} lies between min_size={settings.min_size} and "
            f"max_size={settings.max_size}. Lower size_multiple or widen the range."
        )
    # Four sizes an octave: steps of 1.19 in width, about 1.4 in N.
    count = max(2, 1 + math.ceil(4 * math.log2(high / low))) if high > low else 1
    return sorted({min(max(round(x / step) * step, low), high) for x in log_spaced(low, high, count)})


def flops_convention(settings: SweepSettings) -> str:
    """Names what a FLOP is in this plan: "6N" or "measured"."""
    f = settings.flops_per_param_per_token
    return "measured" if f == "measured" else f"{f:g}N"
