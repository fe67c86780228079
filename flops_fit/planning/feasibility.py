"""Which (size, budget) cells are worth training?

A rule returns the reason against a cell, or None. A new rule is one function and one line in RULES.
"""

from dataclasses import dataclass

from flops_fit.quantities import format_count
from flops_fit.records import Recipe


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds that a cell must keep. None: no bound."""

    min_tokens_per_param: float = 0.1
    max_tokens_per_param: float | None = None
    min_steps: int = 1
    max_epochs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One size at one budget."""

    num_params: int
    num_tokens: int
    recipe: Recipe
    unique_tokens: int | None
    """Distinct training tokens there are; None if unknown."""


def objection_to(cell: Cell, limits: Limits) -> tuple[str, str] | None:
    """Returns name and reason of the first rule that rejects the cell, or None if it is feasible."""
    for rule in RULES:
        if (reason := rule(cell, limits)) is not None:
            return rule.__name__.removeprefix("_"), reason
    return None


def _too_little_data(cell: Cell, limits: Limits) -> str | None:
    ratio = cell.num_tokens / cell.num_params
    if ratio < limits.min_tokens_per_param:
        limit = limits.min_tokens_per_param
        return f"would see {ratio:.3g} tokens per parameter (min_tokens_per_param={limit:g})"
    return None


def _too_much_data(cell: Cell, limits: Limits) -> str | None:
    ratio, limit = cell.num_tokens / cell.num_params, limits.max_tokens_per_param
    if limit is not None and ratio > limit:
        return f"would see {ratio:.3g} tokens per parameter (max_tokens_per_param={limit:g})"
    return None


def _too_few_steps(cell: Cell, limits: Limits) -> str | None:
    steps = -(-cell.num_tokens // cell.recipe.batch_tokens)
    if steps < limits.min_steps:
        return f"would take {steps} steps of {cell.recipe.batch_tokens} tokens (min_steps={limits.min_steps})"
    return None


def _too_many_epochs(cell: Cell, limits: Limits) -> str | None:
    if limits.max_epochs is None or not cell.unique_tokens:
        return None
    epochs = cell.num_tokens / cell.unique_tokens
    if epochs > limits.max_epochs:
        unique = format_count(cell.unique_tokens)
        return f"would see its {unique} tokens {epochs:.3g} times (max_epochs={limits.max_epochs:g})"
    return None


def _step_larger_than_data(cell: Cell, limits: Limits) -> str | None:
    if cell.unique_tokens is not None and cell.recipe.batch_tokens > cell.unique_tokens:
        return f"takes {cell.recipe.batch_tokens} tokens in one step, and the data holds {cell.unique_tokens}"
    return None


RULES = (_too_little_data, _too_much_data, _too_few_steps, _too_many_epochs, _step_larger_than_data)
