"""Fingerprints: what makes two tasks the same work, equal in every process and on every machine.

What a fingerprint covers:

- The computation of the model, the loss, the collation and, where samples are random, the data set: the code of
  functions and classes, of their bases and of all that they use from the user's own modules, as syntax (a comment, a
  docstring or an annotation does not count); constants, closure values, default and partial arguments, attributes of
  objects, weights and buffers of loss modules. Of installed packages, their name and version.
- The size parameter, and the other arguments of the model.
- The content of the data: its length and raw samples spread over it, never the outcome of random augmentation.

Not covered: the environment (device, versions of Python, torch and numpy), which each result records. A task can state
a ``fingerprint`` of its own; then that text alone says which runs belong together.
"""

import dataclasses
import enum
import functools
import hashlib
import inspect
import json
import logging
from collections.abc import Mapping
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from flops_fit.data.contents import constant_attributes, update, without_addresses
from flops_fit.data.samples import MapSource, StreamSource, unwrapped
from flops_fit.data.sources import SampleSource
from flops_fit.errors import ContractError
from flops_fit.tasks.source_code import (
    imported_module,
    is_library_file,
    library_of,
    names_read,
    normalised_source,
)

if TYPE_CHECKING:
    from flops_fit.tasks.task import Task


def computation_of(task: "Task") -> str:
    """Digests model, arguments and loss; asked before anything is built, since code may keep results of calls.

    Raises:
        ContractError: If they refer to more than can be followed.
    """
    walk, arguments = _Walk(), dict(task.model_kwargs)
    try:
        return _hash([task.size_param, *map(walk.describe, (task.model_cls, arguments, task.loss_fn))])
    except RecursionError as error:
        raise ContractError(
            f"model_cls: the code and values that {task.model_cls_name} uses are nested too deeply to be identified. "
            "State what identifies this work yourself: fingerprint='my-model-v1'."
        ) from error


def fingerprint_of(task: "Task") -> str:
    """Identifies a task by its computation and its data."""
    return _hash([task.computation, _data_of(task.train_data), _data_of(task.eval_data)])


def _data_of(source: SampleSource | None) -> Any:
    if source is None:
        return None
    parts: list[Any] = [source.fingerprint]
    origin = unwrapped(source)
    if isinstance(origin, (MapSource, StreamSource)):
        walk = _Walk()
        parts.append(walk.describe(origin.collate_fn))
        if origin.is_random:  # Samples do not show what the data set does to its items; its code does.
            parts += [walk.describe(type(origin.dataset)), constant_attributes(origin.dataset)]
            transforms = ("transform", "target_transform", "transforms")
            parts += [walk.describe(getattr(origin.dataset, name, None)) for name in transforms]
    return parts


def _hash(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


class _Walk:
    """Describes values as JSON; what was met before is named by its number, so that circles end."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []
        self._attributes_seen: set[tuple[str, str]] = set()

    def describe(self, value: Any) -> Any:
        """Returns plain lists and strings that are equal for equal computations."""
        if value is None or isinstance(value, (bool, int, str)):
            return [type(value).__name__, str(value)]
        if isinstance(value, float):
            return ["float", value.hex()]
        if isinstance(value, (torch.dtype, torch.device, torch.Size, bytes, complex, range)):
            return str(value)
        if isinstance(value, (torch.Tensor, np.ndarray)):
            return _tensor(value)
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)  # Its id must not be given to another value.
        return self._describe_new(value)

    def _describe_new(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return [type(value).__qualname__, value.name]
        if isinstance(value, Mapping):
            return ["mapping", *([self.describe(k), self.describe(v)] for k, v in _sorted_items(value))]
        if isinstance(value, (list, tuple)):
            return ["list", *map(self.describe, value)]
        if isinstance(value, (set, frozenset)):
            return ["set", *map(self.describe, sorted(value, key=lambda v: without_addresses(_repr(v))))]
        if isinstance(value, functools.partial):
            return ["partial", *map(self.describe, (value.func, value.args, dict(value.keywords)))]
        if isinstance(value, MethodType):
            return ["method", self.describe(value.__func__), self.describe(value.__self__)]
        if isinstance(value, (staticmethod, classmethod)):
            return self.describe(value.__func__)
        if isinstance(value, property):
            return ["property", *map(self.describe, (value.fget, value.fset))]
        if isinstance(value, functools.cached_property):
            return ["property", self.describe(value.func)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, ModuleType):
            return ["module", library_of(value.__name__) or value.__name__.rpartition(".")[2]]
        if isinstance(value, logging.Logger):
            return "logger"
        return self._object(value)

    def _function(self, function: FunctionType) -> Any:
        wrapped = getattr(function, "__wrapped__", None)
        if is_library_file(function.__code__.co_filename):
            name = [function.__code__.co_qualname, library_of(function.__globals__.get("__name__"))]
            return name if wrapped is None else [*name, self.describe(wrapped)]
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return [
            normalised_source(function),
            self.describe(function.__defaults__),
            self.describe(function.__kwdefaults__),
            [[name, self._cell(cell)] for name, cell in cells],
            self._names(function),
        ]

    def _cell(self, cell: Any) -> Any:
        try:
            return self.describe(cell.cell_contents)
        except ValueError:
            return "empty"

    def _names(self, function: FunctionType) -> Any:
        """What a function reads from its module, and from the modules that it imports."""
        names, attributes, imports = names_read(function.__code__)
        known = function.__globals__
        found = [[n, self._global(known[n], attributes)] for n in sorted(names) if n in known and n[:2] != "__"]
        for name, level, taken in imports:
            module = imported_module(name, level, known.get("__package__"))
            if module is not None:
                found.append([name, self._attributes(module, set(taken) or attributes)])
        return found

    def _global(self, value: Any, attributes: set[str]) -> Any:
        if isinstance(value, ModuleType) and library_of(value.__name__) is None:
            return self._attributes(value, attributes)
        return self.describe(value)

    def _attributes(self, module: ModuleType, names: set[str]) -> Any:
        own = [n for n in sorted(names) if n in vars(module) and (module.__name__, n) not in self._attributes_seen]
        self._attributes_seen.update((module.__name__, n) for n in own)
        return [[n, self._global(vars(module)[n], names)] for n in own]

    def _class(self, cls: type) -> Any:
        library = library_of(cls.__module__)
        if library is not None:
            return [cls.__qualname__, library]
        members = []
        for name, value in sorted(vars(cls).items()):
            is_code = isinstance(value, (FunctionType, staticmethod, classmethod, property, functools.cached_property))
            if name[:2] == "__" and (not is_code or _is_generated(cls, value)):
                continue
            if name.startswith(("_abc_", "_member")):
                continue
            if is_code or not hasattr(type(value), "__get__"):
                members.append([name, self.describe(value)])
            elif callable(value):
                members.append([name, self.describe(getattr(value, "__wrapped__", value))])
        if dataclasses.is_dataclass(cls):
            for field in dataclasses.fields(cls):
                parts = (field.default, field.default_factory)
                missing = dataclasses.MISSING
                members.append([field.name, *("-" if p is missing else self.describe(p) for p in parts)])
        return [cls.__qualname__, [self.describe(base) for base in cls.__bases__ if base is not object], members]

    def _object(self, value: Any) -> Any:
        if inspect.isfunction(wrapped := getattr(value, "__wrapped__", None)):
            return ["wrapped", self.describe(wrapped)]  # functools.cache
        if inspect.isroutine(value) or isinstance(value, np.ufunc):
            return [getattr(value, "__qualname__", value.__name__), library_of(getattr(value, "__module__", None))]
        kind, state = self.describe(type(value)), getattr(value, "__dict__", None)
        if isinstance(value, nn.Module):
            state = {k: v for k, v in value.__dict__.items() if k != "training" and "hook" not in k}
        if state:
            return [kind, self.describe(state)]
        held = {n: getattr(value, n) for base in type(value).__mro__ for n in _slots_of(base) if hasattr(value, n)}
        return [kind, self.describe(held) if held else without_addresses(_repr(value))]


def _slots_of(cls: type) -> list[str]:
    slots = vars(cls).get("__slots__", ())
    return [n for n in ([slots] if isinstance(slots, str) else slots) if n not in ("__dict__", "__weakref__")]


def _sorted_items(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(value.items(), key=lambda item: without_addresses(_repr(item[0])))


def _tensor(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_meta:
        return [str(value.dtype), list(value.shape)]
    digest = hashlib.sha256()
    update(digest, value)
    return ["tensor", digest.hexdigest()]


def _is_generated(cls: type, value: Any) -> bool:
    """Methods of dataclasses, whose fields say what they do."""
    is_text = isinstance(value, FunctionType) and value.__code__.co_filename == "<string>"
    return is_text and dataclasses.is_dataclass(cls)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return type(value).__qualname__
