"""Plain values (from JSON or YAML) to frozen dataclasses, and back.

A missing key or a value of the wrong type is a ConfigError that names the path. So is an unknown key, with the
nearest known one, in a configuration; in a record it is a field that a newer version added, and is ignored.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from flops_fit.errors import ConfigError

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], *, path: str = "") -> T:
    """Builds the dataclass ``cls`` from a mapping, nested dataclasses included.

    Args:
        cls: A dataclass type.
        values: Plain values by field name.
        path: Position of ``values``, for messages ("train.recipe").

    Raises:
        ConfigError: If a key is unknown or missing, or a value has the wrong type.
    """
    return _build(cls, values, path, strict=True)


def build_record(cls: type[T], values: Mapping[str, Any]) -> T:
    """Builds the dataclass ``cls`` from a record, at any depth without the fields that this version does not know.

    Raises:
        ConfigError: If a key is missing, or a value has the wrong type.
    """
    return _build(cls, values, "", strict=False)


def unknown_fields(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `build_record` ignores on the first level of ``values``."""
    known = {f.name for f in dataclasses.fields(cls)}
    return {str(key): value for key, value in values.items() if key not in known}


def _build(cls: type[T], values: Mapping[str, Any], path: str, *, strict: bool) -> T:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or cls.__name__}: got {values!r}, expected a mapping of settings.")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        where = f"{path}.{key}" if path else str(key)
        if key in fields:
            arguments[key] = _convert(hints[key], value, where, strict)
        elif strict:
            raise ConfigError(unknown_name("key", where, str(key), fields))
    missing = [n for n, f in fields.items() if n not in arguments and _is_required(f)]
    if missing:
        raise ConfigError(f"{path or cls.__name__}: missing {', '.join(missing)}. Give a value for each.")
    return cls(**arguments)


def to_plain(value: Any) -> Any:
    """Turns dataclasses, tuples, mappings and numpy scalars into JSON-ready values.

    Non-finite numbers are refused: None means absent, and strict JSON has no NaN.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"got {value}, expected a finite number or None")
    return value


def canonical_json(value: Any) -> str:
    """Writes a value as JSON that is equal for equal values: sorted keys, no NaN, no blanks."""
    return json.dumps(to_plain(value), sort_keys=True, allow_nan=False, separators=(",", ":"))


def unknown_name(kind: str, got: str, name: str, known: typing.Iterable[str]) -> str:
    """Returns the message for an unknown name: what we got, the nearest known one, all known ones."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {got!r}.{hint} Known: {', '.join(known)}."


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, path: str, strict: bool) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert_union([a for a in args if a is not type(None)], value, path, strict)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{path}: " + unknown_name("choice", str(value), str(value), map(str, args)))
        return value
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), value, path, strict=strict)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path}: got {value!r}, expected a list, such as [{value}].")
        return tuple(_convert(args[0], v, f"{path}[{i}]", strict) for i, v in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}: got {value!r}, expected a mapping.")
        return {str(k): _convert(args[1], v, f"{path}.{k}", strict) for k, v in value.items()}
    return _convert_scalar(hint, value, path)


def _convert_union(choices: list[Any], value: Any, path: str, strict: bool) -> Any:
    for choice in choices:
        try:
            return _convert(choice, value, path, strict)
        except ConfigError as error:
            last = error
    if len(choices) == 1:
        raise last
    raise ConfigError(f"{path}: got {value!r}, expected {' or '.join(map(_type_name, choices))}.")


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    return str(getattr(hint, "__name__", hint))


def _convert_scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{path}: got {value!r}, expected {hint.__name__}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}: got {value}, expected a finite number.")
    return value
