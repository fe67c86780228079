"""Contents of a data set: a digest of raw samples, the same in every process, never of random augmentation."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from flops_fit.data.targets import seeded

# Samples that are read, first and last among them.
SAMPLES = 32
PLAIN = (bool, int, float, str)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def digest_data(dataset: Any) -> tuple[str, bool]:
    """Returns a digest of the length and of samples spread over a map-style data set, and whether they are random.

    A data set whose samples are another at each read (augmentation) is identified by what it holds: raw items where
    they can be reached (``.data``, ``.tensors``, ``.samples``, the rows of a Hugging Face data set, the data set it
    wraps), else by its samples under a fixed seed, else by its class, length and plain attributes.
    """
    size = len(dataset)
    picks = [int(i) for i in np.linspace(0, size - 1, min(SAMPLES, size))]
    first, second, again = (_digest_reads(dataset.__getitem__, picks, seed) for seed in (0, 1, 0))
    is_random = first != second
    digest = hashlib.sha256(str(size).encode())
    if not is_random:
        digest.update(first)
    elif (raw := _raw_items(dataset, picks, size)) is not None:
        digest.update(_digest_of(raw))
    elif first == again:
        digest.update(first)
    else:
        digest.update(_digest_of([type(dataset).__qualname__, constant_attributes(dataset)]))
    return digest.hexdigest()[:16], is_random


def digest_stream(first: Callable[[int], Sequence[Any]]) -> tuple[str, bool]:
    """The same of a stream, by its first samples; ``first(count)`` begins it anew."""
    digests = []
    for seed in (0, 1, 0):
        with seeded(seed):
            digests.append(_digest_of(list(first(SAMPLES))))
    is_random = digests[0] != digests[1]
    usable = digests[0] if digests[0] == digests[2] else b"a stream of random samples"
    return hashlib.sha256(usable).hexdigest()[:16], is_random


def constant_attributes(dataset: Any) -> dict[str, Any]:
    """Returns the attributes that are numbers, strings or None and that reading a sample does not change."""
    before = _plain_attributes(dataset)
    next(iter(dataset), None)
    after = _plain_attributes(dataset)
    return {k: v for k, v in before.items() if k in after and after[k] == v}


def without_addresses(text: str) -> str:
    """Drops memory addresses, which differ between processes, from a ``repr``."""
    return ADDRESS.sub("", text)


def _plain_attributes(thing: Any) -> dict[str, Any]:
    found = {k: v for k, v in getattr(thing, "__dict__", {}).items() if v is None or isinstance(v, PLAIN)}
    # Data may be elsewhere on another machine.
    return {k: v for k, v in sorted(found.items()) if not (isinstance(v, str) and PurePath(v).is_absolute())}


def _digest_reads(read: Callable[[int], Any], picks: Sequence[int], seed: int) -> bytes:
    digest = hashlib.sha256()
    for i in picks:
        with seeded(seed):
            update(digest, read(i))
    return digest.digest()


def _digest_of(value: Any) -> bytes:
    digest = hashlib.sha256()
    update(digest, value)
    return digest.digest()


def _raw_items(dataset: Any, picks: Sequence[int], size: int) -> list[Any] | None:
    """Returns what the data set holds for these samples before any transform; None where it cannot be reached."""
    if isinstance(dataset, Subset):
        picks = [int(dataset.indices[i]) for i in picks]
        return _raw_items(dataset.dataset, picks, len(dataset.dataset))  # type: ignore[arg-type]
    if hasattr(dataset, "with_format") and hasattr(dataset, "features"):
        plain = dataset.with_format(None)  # A Hugging Face transform is a format.
        return [plain[i] for i in picks]
    found = []
    for value in getattr(dataset, "__dict__", {}).values():
        parts = value if isinstance(value, tuple) and len(value) != size else (value,)
        found += [rows for part in parts if (rows := _rows_of(part, picks, size)) is not None]
    return found or None


def _rows_of(value: Any, picks: Sequence[int], size: int) -> list[Any] | None:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return [value[i] for i in picks] if value.ndim and len(value) == size else None
    if isinstance(value, (list, tuple)):
        return [value[i] for i in picks] if len(value) == size else None
    if isinstance(value, (str, bytes, Mapping)) or not (hasattr(value, "__getitem__") and hasattr(value, "__len__")):
        return None
    if len(value) != size:
        return None
    nested = _raw_items(value, picks, size)
    if nested is not None:
        return nested
    is_random = _digest_reads(value.__getitem__, picks, 0) != _digest_reads(value.__getitem__, picks, 1)
    return None if is_random else [value[i] for i in picks]


def update(digest: Any, sample: Any) -> None:
    """Feeds a value to a hash: numbers with their types, containers by their parts, all else without addresses."""
    if isinstance(sample, Mapping):
        for key in sorted(sample, key=str):
            digest.update(str(key).encode())
            update(digest, sample[key])
    elif isinstance(sample, (tuple, list)):
        for part in sample:
            update(digest, part)
    elif isinstance(sample, torch.Tensor):
        digest.update(str(sample.dtype).encode() + str(tuple(sample.shape)).encode())
        digest.update(sample.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(sample, np.ndarray) and sample.dtype != object:
        digest.update(str(sample.dtype).encode() + str(sample.shape).encode() + sample.tobytes())
    elif isinstance(sample, (str, PurePath)) and PurePath(sample).is_absolute():
        digest.update("/".join(PurePath(sample).parts[-2:]).encode())  # Data may be elsewhere on another machine.
    elif hasattr(sample, "__array_interface__"):
        update(digest, np.asarray(sample))  # An image.
    else:
        digest.update(without_addresses(repr(sample)).encode())
