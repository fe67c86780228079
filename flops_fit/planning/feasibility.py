"""Feasibility rules: which (size, budget) pairs are worth training.

A rule returns its objection to a pair, or None. A new rule is one function and one line in RULES.
"""

from dataclasses import dataclass, replace

from flops_fit.quantities import format_count
from flops_fit.records import Recipe


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds that a pair must keep. None: no bound."""

    min_tokens_per_param: float = 0.1
    max_tokens_per_param: float | None = None
    min_steps: int = 1
    max_epochs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One size at one budget."""

    num_params: int
    num_tokens: int
    recipe: Recipe
    unique_tokens: int | None
    """Distinct training tokens; None if unknown."""
    data_unit: str = "tokens"
    """What D counts, for messages."""


@dataclass(frozen=True, kw_only=True)
class Objection:
    """Why a pair is not worth training."""

    reason: str
    min_tokens: float | None = None
    """With so many tokens the rule would not object; None where more tokens do not help."""
    code: str = ""
    """Name of the rule."""


def objection_to(pair: Pair, limits: Limits) -> Objection | None:
    """Returns the objection of the first rule that has one, or None if the pair is feasible."""
    for rule in RULES:
        if (found := rule(pair, limits)) is not None:
            return replace(found, code=rule.__name__.removeprefix("_"))
    return None


def fewest_tokens(pair: Pair, limits: Limits, unit: int) -> int | None:
    """Returns the fewest tokens, a multiple of ``unit``, that make a size feasible; None if no number does."""
    tokens = unit
    while (found := objection_to(replace(pair, num_tokens=tokens), limits)) is not None:
        if found.min_tokens is None:
            return None
        # At least one more, so that a rule whose number is off by rounding cannot keep this from ending.
        tokens = max(int(-(-found.min_tokens // unit)), tokens // unit + 1) * unit
    return tokens


def _too_little_data(pair: Pair, limits: Limits) -> Objection | None:
    ratio, limit = pair.num_tokens / pair.num_params, limits.min_tokens_per_param
    if ratio >= limit:
        return None
    return Objection(
        reason=f"would see {ratio:.3g} {pair.data_unit} per parameter (min_tokens_per_param={limit:g})",
        min_tokens=limit * pair.num_params,
    )


def _too_much_data(pair: Pair, limits: Limits) -> Objection | None:
    ratio, limit = pair.num_tokens / pair.num_params, limits.max_tokens_per_param
    if limit is None or ratio <= limit:
        return None
    return Objection(reason=f"would see {ratio:.3g} {pair.data_unit} per parameter (max_tokens_per_param={limit:g})")


def _too_few_steps(pair: Pair, limits: Limits) -> Objection | None:
    batch = pair.recipe.batch_tokens
    steps = -(-pair.num_tokens // batch)
    if steps >= limits.min_steps:
        return None
    return Objection(
        reason=f"would take {steps} steps of {batch} {pair.data_unit} (min_steps={limits.min_steps})",
        min_tokens=(limits.min_steps - 1) * batch + 1,
    )


def _too_many_epochs(pair: Pair, limits: Limits) -> Objection | None:
    if limits.max_epochs is None or not pair.unique_tokens:
        return None
    epochs = pair.num_tokens / pair.unique_tokens
    if epochs <= limits.max_epochs:
        return None
    unique = f"{format_count(pair.unique_tokens)} {pair.data_unit}"
    return Objection(reason=f"would see its {unique} {epochs:.3g} times (max_epochs={limits.max_epochs:g})")


def _step_larger_than_data(pair: Pair, limits: Limits) -> Objection | None:
    batch, unique = pair.recipe.batch_tokens, pair.unique_tokens
    if unique is None or batch <= unique:
        return None
    return Objection(reason=f"takes {batch} {pair.data_unit} in one step, and the data holds {unique}")


RULES = (_too_little_data, _too_much_data, _too_few_steps, _too_many_epochs, _step_larger_than_data)
