"""How does any data set become numbered samples?"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import getitem
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset, default_collate

from flops_fit.data.randomness import drawn, is_seeding
from flops_fit.data.sources import SampleSource
from flops_fit.errors import ContractError, DataExhausted

FINGERPRINT_SAMPLES = 16
HELD_OUT_FRACTION = 0.06
MAX_HELD_OUT = 4096


@dataclass(frozen=True, eq=False)
class MapSource:
    """A map-style data set: ``dataset[i]`` is one sample."""

    dataset: Any
    collate_fn: Callable[[list[Any]], Any] = default_collate

    @cached_property
    def tokens_per_sample(self) -> int:
        """Targets of the first sample, where they are a sequence; else 1."""
        return _targets_of(self.dataset[0])

    @property
    def num_samples(self) -> int:
        """Length of the data set."""
        return len(self.dataset)

    @cached_property
    def fingerprint(self) -> str:
        """Of the length and of samples spread over the data set."""
        picked = np.linspace(0, self.num_samples - 1, min(FINGERPRINT_SAMPLES, self.num_samples)).astype(int)
        digest = hashlib.sha256(str(self.num_samples).encode())
        for i in picked:
            _digest(self.dataset[int(i)], digest)
        return digest.hexdigest()[:16]

    def batch(self, ids: NDArray[np.int64]) -> Any:
        """Collates the samples ``ids``."""
        if isinstance(self.dataset, TensorDataset) and self.collate_fn is default_collate:
            # One index per tensor instead of one per sample: what the default collation comes to, much faster.
            index = torch.from_numpy(ids)
            return tuple(tensor[index] for tensor in self.dataset.tensors)
        if hasattr(self.dataset, "__getitems__") and not is_seeding():
            return self.collate_fn(self.dataset.__getitems__(ids.tolist()))
        return self.collate_fn([drawn(partial(getitem, self.dataset, int(i))) for i in ids])


@dataclass(eq=False)
class StreamSource:
    """An iterable data set, read once and in order; sample i is its i-th item.

    Going back (a new run starts at sample 0) begins the iteration anew, so it must repeat itself.
    """

    dataset: Iterable[Any]
    collate_fn: Callable[[list[Any]], Any] = default_collate
    _iterator: Iterator[Any] | None = field(default=None, repr=False)
    _position: int = 0

    @property
    def num_samples(self) -> None:
        """Unknown."""
        return None

    @cached_property
    def tokens_per_sample(self) -> int:
        """Targets of the first sample, where they are a sequence; else 1."""
        return _targets_of(self.first(1)[0])

    @cached_property
    def fingerprint(self) -> str:
        """Of the first samples."""
        digest = hashlib.sha256()
        for sample in self.first(FINGERPRINT_SAMPLES):
            _digest(sample, digest)
        return digest.hexdigest()[:16]

    def batch(self, ids: NDArray[np.int64]) -> Any:
        """Collates the samples ``ids``, which must not go back within one run.

        Raises:
            DataExhausted: If the stream ends before them.
        """
        wanted = [int(i) for i in ids]
        if self._iterator is None or wanted[0] < self._position:
            self._iterator, self._position = iter(self.dataset), 0
        return self.collate_fn([self._advance_to(i) for i in wanted])

    def _advance_to(self, i: int) -> Any:
        assert self._iterator is not None
        end = object()
        while (sample := drawn(partial(next, self._iterator, end), self._position)) is not end:
            self._position += 1
            if self._position > i:
                return sample
        raise DataExhausted(
            f"the data stream ended after {self._position} samples and sample {i} was planned. "
            "Give more data, or lower the largest compute budget."
        )

    def first(self, count: int) -> list[Any]:
        """Returns the first samples, not collated, fewer where there are fewer.

        Raises:
            ContractError: If there is none.
        """
        samples = [s for s, _ in zip(iter(self.dataset), range(count), strict=False)]
        if not samples:
            raise ContractError("dataset: got an empty stream, expected at least one sample.")
        return samples


@dataclass(frozen=True, eq=False)
class SourceView:
    """Some samples of another source, renumbered from 0."""

    source: SampleSource
    ids: NDArray[np.int64]
    """Shape (n,)."""

    @property
    def tokens_per_sample(self) -> int:
        """As in the whole."""
        return self.source.tokens_per_sample

    @property
    def num_samples(self) -> int:
        """How many are taken."""
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """Of the whole and of the choice."""
        return f"{self.source.fingerprint}-{hashlib.sha256(self.ids.tobytes()).hexdigest()[:8]}"

    def batch(self, ids: NDArray[np.int64]) -> Any:
        """Collates the samples ``ids`` of this view."""
        return self.source.batch(self.ids[ids])


def as_source(dataset: Any) -> SampleSource:
    """Wraps a data set: map-style, iterable, a DataLoader, or a `SampleSource` as it is.

    Of a DataLoader the data set and ``collate_fn`` are used; order and batch size are the plan's.

    Raises:
        ContractError: If it is none of these, is empty, or yields lists where tensors are expected.
    """
    if isinstance(dataset, SampleSource):
        return dataset
    collate: Callable[[list[Any]], Any] = default_collate
    if isinstance(dataset, DataLoader):
        dataset, collate = dataset.dataset, dataset.collate_fn
    if isinstance(dataset, type) or not (hasattr(dataset, "__getitem__") or hasattr(dataset, "__iter__")):
        raise ContractError(
            f"dataset: got {dataset!r}, expected a map-style data set (__getitem__ and __len__), an iterable, "
            "or a DataLoader."
        )
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        if iter(dataset) is dataset:
            raise ContractError(
                f"dataset: got a {type(dataset).__name__}, which can be read only once, and each run reads from the "
                "start. Wrap it: an IterableDataset whose __iter__ makes it anew."
            )
        source: SampleSource = StreamSource(dataset, collate)
    elif len(dataset) == 0:
        raise ContractError("dataset: got 0 samples, expected at least one.")
    else:
        source = MapSource(dataset, collate)
    first = source.first(1)[0] if isinstance(source, StreamSource) else dataset[0]
    if isinstance(first, Mapping) and any(isinstance(v, list) for v in first.values()):
        names = [k for k, v in first.items() if isinstance(v, list)]
        raise ContractError(
            f"dataset: the columns {names} hold Python lists, expected tensors. "
            "For a Hugging Face data set use dataset.with_format('torch')."
        )
    return source


def split_held_out(source: SampleSource, fraction: float = HELD_OUT_FRACTION) -> tuple[SampleSource, SampleSource]:
    """Keeps a part of the samples apart, the same for equal data.

    Raises:
        ContractError: If there are too few samples for both sides, or the source is a stream.
    """
    if source.num_samples is None:
        raise ContractError(
            "dataset: a stream cannot be split into training and held-out samples. "
            "Give eval_dataset, a second data set that no run trains on."
        )
    held_out = min(max(1, round(fraction * source.num_samples)), MAX_HELD_OUT)
    if source.num_samples < 2:
        raise ContractError("dataset: got 1 sample, expected at least 2: one must be held out.")
    order = np.random.default_rng(0).permutation(source.num_samples).astype(np.int64)
    return SourceView(source, np.sort(order[held_out:])), SourceView(source, np.sort(order[:held_out]))


def _targets_of(sample: Any) -> int:
    if isinstance(sample, Mapping):
        target = sample.get("labels", sample.get("input_ids"))
    elif isinstance(sample, (tuple, list)) and len(sample) == 2:
        target = sample[1]
    else:
        target = None
    if isinstance(target, (torch.Tensor, np.ndarray)) and target.ndim == 1:
        return len(target) if not torch.as_tensor(target).is_floating_point() else 1
    return 1


def _digest(sample: Any, digest: Any) -> None:
    if isinstance(sample, Mapping):
        for key in sorted(sample):
            digest.update(str(key).encode())
            _digest(sample[key], digest)
    elif isinstance(sample, (tuple, list)):
        for part in sample:
            _digest(part, digest)
    elif isinstance(sample, torch.Tensor):
        digest.update(
            str(sample.dtype).encode()
            + sample.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    elif isinstance(sample, np.ndarray):
        digest.update(sample.tobytes())
    else:
        digest.update(repr(sample).encode())
