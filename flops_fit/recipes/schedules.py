"""Learning-rate schedules: pure functions of the tokens seen. A new one is one `Schedule` in `SCHEDULES`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from flops_fit.recipes.registry import look_up
from flops_fit.records import Recipe


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The shape of a learning rate, without its peak and its warmup, which all schedules share."""

    multiplier: Callable[[Recipe, int, int], float]
    """``multiplier(recipe, tokens, total_tokens)``: share of the peak after ``tokens`` of ``total_tokens``."""
    common_tokens: Callable[[Recipe, int], int]
    """``common_tokens(recipe, total_tokens)``: below this, the multiplier is the same for every longer run.

    Runs of one size share the steps that begin there (their trunk); 0 where the multiplier depends on the total from
    the start. A number that is too large corrupts every run that shares a trunk.
    """


def learning_rate(recipe: Recipe, tokens: int, total_tokens: int) -> float:
    """Returns the learning rate of the step that begins after ``tokens`` of ``total_tokens``.

    Raises:
        ConfigError: If the recipe names an unknown schedule.
    """
    schedule = look_up(SCHEDULES, "schedule", recipe.schedule)
    # The step's own batch counts as warmed up, so that the first step is not a step of zero.
    warmup = min(1.0, (tokens + recipe.batch_tokens) / max(recipe.warmup_tokens, 1))
    return recipe.learning_rate * warmup * schedule.multiplier(recipe, tokens, total_tokens)


def trunk_steps(recipe: Recipe, total_tokens: int) -> int:
    """Returns how many first steps of a run are the same for every longer run of its recipe: its trunk.

    They are full steps whose learning rate does not depend on ``total_tokens``, and never the whole run.

    Raises:
        ConfigError: If the recipe names an unknown schedule.
    """
    common = look_up(SCHEDULES, "schedule", recipe.schedule).common_tokens(recipe, total_tokens)
    return max(0, min(-(-common // recipe.batch_tokens), (total_tokens - 1) // recipe.batch_tokens))


def _wsd(recipe: Recipe, tokens: int, total: int) -> float:
    """Constant, then 1 - sqrt(progress) of the decay (Haegele et al. 2024, arXiv:2405.18392)."""
    start = total * (1 - recipe.decay_fraction)
    return 1.0 if tokens <= start else 1 - math.sqrt((tokens - start) / (total - start))


def _before_the_decay(recipe: Recipe, total: int) -> int:
    # The decay starts at 1, so the step that begins with it is still common.
    return int(total * (1 - recipe.decay_fraction)) + 1


def _cosine(recipe: Recipe, tokens: int, total: int) -> float:
    """To a tenth of the peak (Hoffmann et al. 2022)."""
    return 0.1 + 0.45 * (1 + math.cos(math.pi * tokens / total))


def _linear(recipe: Recipe, tokens: int, total: int) -> float:
    return 1 - tokens / total


def _constant(recipe: Recipe, tokens: int, total: int) -> float:
    return 1.0


def _inverse_sqrt(recipe: Recipe, tokens: int, total: int) -> float:
    return math.sqrt(recipe.warmup_tokens / max(tokens, recipe.warmup_tokens, 1))


def _no_tokens(recipe: Recipe, total: int) -> int:
    return 0


def _all_tokens(recipe: Recipe, total: int) -> int:
    return total


SCHEDULES: dict[str, Schedule] = {
    "wsd": Schedule(multiplier=_wsd, common_tokens=_before_the_decay),
    "cosine": Schedule(multiplier=_cosine, common_tokens=_no_tokens),
    "linear": Schedule(multiplier=_linear, common_tokens=_no_tokens),
    "constant": Schedule(multiplier=_constant, common_tokens=_all_tokens),
    "inverse_sqrt": Schedule(multiplier=_inverse_sqrt, common_tokens=_all_tokens),
}
