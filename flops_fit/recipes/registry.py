"""Lookup by name in a registry, with one error for all of them."""

from collections.abc import Mapping
from typing import TypeVar

from flops_fit.errors import ConfigError
from flops_fit.schema import unknown_name

T = TypeVar("T")


def look_up(registry: Mapping[str, T], kind: str, name: str) -> T:
    """Returns ``registry[name]``.

    Args:
        registry: Values by name.
        kind: The recipe's field that holds the name, such as "schedule".
        name: As the user wrote it.

    Raises:
        ConfigError: If there is none; the nearest known name is given.
    """
    if name not in registry:
        raise ConfigError(f"sweep.recipe.{kind}: {unknown_name(kind, name, name, registry)}")
    return registry[name]
