"""Filters of runs, as `flops-fit train --only` has them: a field, a comparison, a value."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flops_fit.errors import ConfigError
from flops_fit.records import Experiment
from flops_fit.schema import unknown_name

FIELDS = ("experiment_id", "compute_budget", "num_params", "num_tokens", "size_param_value", "seed")
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, "!=": operator.ne, ">": operator.gt, "<": operator.lt, "=": operator.eq,
}  # fmt: skip
_FILTER = re.compile(r"([A-Za-z_]+)\s*(>=|<=|!=|=|>|<)\s*(\S+)")


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """One condition on a run."""

    field: str
    comparison: str
    value: float | str

    def holds(self, run: Experiment) -> bool:
        """Whether a run meets it."""
        return COMPARISONS[self.comparison](getattr(run, self.field), self.value)


def parse_filters(texts: Sequence[str]) -> tuple[RunFilter, ...]:
    """Reads conditions such as ``num_params>=1e8``.

    Raises:
        ConfigError: If one is not of that form, or names no field of a run.
    """
    return tuple(_parse(text) for text in texts)


def choose_runs(runs: Sequence[Experiment], filters: Sequence[RunFilter]) -> list[Experiment]:
    """Returns the runs that meet all conditions.

    Raises:
        ConfigError: If none does.
    """
    chosen = [run for run in runs if all(f.holds(run) for f in filters)]
    if not chosen:
        words = " and ".join(f"{f.field}{f.comparison}{f.value}" for f in filters)
        names = {f.field for f in filters}
        there = "; ".join(f"{name}: {', '.join(sorted({str(getattr(r, name)) for r in runs})[:8])}" for name in names)
        raise ConfigError(f"--only: got {words}, which none of the {len(runs)} runs meets. There are {there}.")
    return chosen


def _parse(text: str) -> RunFilter:
    match = _FILTER.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"--only: got {text!r}, expected FIELD>=VALUE, also with <=, >, <, = or !=. Quote it for the shell."
        )
    field, comparison, value = match.groups()
    if field not in FIELDS:
        raise ConfigError("--only: " + unknown_name("field", text, field, FIELDS))
    if field == "experiment_id":
        if comparison not in ("=", "!="):
            raise ConfigError(f"--only: got {text!r}; an id is compared with = or !=.")
        return RunFilter(field=field, comparison=comparison, value=value)
    try:
        return RunFilter(field=field, comparison=comparison, value=float(value))
    except ValueError:
        raise ConfigError(f"--only: got {text!r}, expected a number after {comparison}.") from None
