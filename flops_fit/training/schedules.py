"""What is the learning rate after so many tokens? Pure functions; a new schedule is one function and one line."""

import math
from collections.abc import Callable

from flops_fit.records import Recipe


def learning_rate(recipe: Recipe, tokens: int, total_tokens: int) -> float:
    """Returns the learning rate of the step that begins after ``tokens`` of ``total_tokens``."""
    # The step's own batch counts as warmed up, so that the first step is not a step of zero.
    warmup = min(1.0, (tokens + recipe.batch_tokens) / max(recipe.warmup_tokens, 1))
    return recipe.learning_rate * warmup * SCHEDULES[recipe.schedule](recipe, tokens, total_tokens)


def steps_without_end(recipe: Recipe, total_tokens: int) -> int:
    """Returns how many first steps of a run are the same for every longer run of its recipe: its trunk.

    They are full steps whose learning rate does not depend on ``total_tokens``, and never the whole run.
    """
    if recipe.schedule == "wsd":
        steps = int(total_tokens * (1 - recipe.decay_fraction) // recipe.batch_tokens) + 1
    elif recipe.schedule in ("constant", "inverse_sqrt"):
        steps = total_tokens // recipe.batch_tokens
    else:
        return 0
    return max(0, min(steps, (total_tokens - 1) // recipe.batch_tokens))


def _wsd(recipe: Recipe, tokens: int, total: int) -> float:
    """Constant, then 1 - sqrt(progress) of the decay (Haegele et al. 2024, arXiv:2405.18392)."""
    start = total * (1 - recipe.decay_fraction)
    return 1.0 if tokens <= start else 1 - math.sqrt((tokens - start) / (total - start))


def _cosine(recipe: Recipe, tokens: int, total: int) -> float:
    """To a tenth of the peak (Hoffmann et al. 2022)."""
    return 0.1 + 0.45 * (1 + math.cos(math.pi * tokens / total))


def _linear(recipe: Recipe, tokens: int, total: int) -> float:
    return 1 - tokens / total


def _constant(recipe: Recipe, tokens: int, total: int) -> float:
    return 1.0


def _inverse_sqrt(recipe: Recipe, tokens: int, total: int) -> float:
    return math.sqrt(recipe.warmup_tokens / max(tokens, recipe.warmup_tokens, 1))


SCHEDULES: dict[str, Callable[[Recipe, int, int], float]] = {
    "wsd": _wsd,
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
    "inverse_sqrt": _inverse_sqrt,
}
