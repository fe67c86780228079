"""Arguments of models as records keep them: JSON, with import paths in place of functions, classes and dtypes."""

import enum
import math
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from flops_fit.data.contents import without_addresses


def plain_kwargs(model_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments as JSON-ready values.

    What has an import path is kept by it ("torch.nn.functional.silu"), another object by its ``repr`` without
    addresses. They are for readers: models are built from the arguments themselves, and the fingerprint covers these.
    """
    return {str(name): _plain(value) for name, value in model_kwargs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Mapping):
        return plain_kwargs(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=str)
    if isinstance(value, (torch.dtype, torch.device, PurePath)):
        return str(value)
    return _import_path(value) or without_addresses(f"object {value!r}")


def _import_path(value: Any) -> str | None:
    name = getattr(value, "__qualname__", None)
    # Functions of torch in C know no module.
    modules = [getattr(value, "__module__", None)] if getattr(value, "__module__", None) else ["torch"]
    for module in modules:
        for path in filter(None, (name, getattr(value, "__name__", None))):
            found: Any = sys.modules.get(str(module))
            for part in path.split("."):
                found = getattr(found, part, None)
            if found is value:
                return f"{module}.{path}"
    return None
