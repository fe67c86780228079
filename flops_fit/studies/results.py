"""Results of runners, made plain: what goes into the manifest, or an error that names the key that cannot."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flops_fit.errors import ContractError
from flops_fit.schema import unknown_name

MEASURES = ("loss", "amplitude_error", "phase_error", "poisson_deviance")
"""Numbers of a result that are shown."""
STATUSES = ("completed", "failed", "stub_complete", "dry_run")


def plain_result(returned: Any) -> dict[str, Any]:
    """Returns a runner's result as values of strict JSON, with its ``status``.

    Paths become text, numpy numbers plain ones, NaN and infinity None; ``not_finite`` then lists their keys, and where
    the loss is among them the result is a failed one. Without a status it is "completed".

    Args:
        returned: A mapping, or None.

    Raises:
        ContractError: If it is something else, or holds a tensor, an array or another object; the key is named.
    """
    if returned is not None and not isinstance(returned, Mapping):
        raise ContractError(f"the runner returned {type(returned).__name__}, expected a mapping of plain values.")
    result: dict[str, Any] = {"status": "completed", **_plain(returned or {}, "")}
    if result["status"] not in STATUSES:
        status = str(result["status"])
        raise ContractError("the runner's result: " + unknown_name("status", status, status, STATUSES))
    broken = sorted(_not_finite(returned or {}, ""))
    if broken:
        result["not_finite"] = broken
    if "loss" in broken and result["status"] == "completed":
        result |= {"status": "failed", "reason": "the loss is not a finite number"}
    return result


def summary_of(result: Mapping[str, Any]) -> str:
    """What a result holds, beside its status, in a line: the reason of a failure, or its numbers."""
    if result.get("reason"):
        return str(result["reason"]).strip().splitlines()[-1]
    parts = [f"{name} {result[name]:.4g}" for name in MEASURES if isinstance(result.get(name), (int, float))]
    if isinstance(law := result.get("law"), Mapping):
        low, high = law["a_interval"]
        parts.append(
            f"N_opt ~ C^{law['a']:.3f} [{low:.3f}, {high:.3f}], {law['runs_used']} runs, trust: {law['trust']}"
        )
    return ", ".join(parts)


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{path}.{key}" if path else str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, f"{path}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ContractError(
        f"the runner's result: {path} is {kind}, expected text, a number, or a list or mapping of these. "
        "Return a plain number, such as float(x), or save it to a file and return its path."
    )


def _not_finite(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{i}]")
    elif isinstance(value, (float, np.floating)) and not math.isfinite(value):
        yield path
