"""Sources over the data sets of users: map-style, streams, and views of another source."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import getitem
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import default_collate

from flops_fit.data.columns import Reader, column_reader
from flops_fit.data.contents import digest_data, digest_stream
from flops_fit.data.randomness import drawn, is_seeding
from flops_fit.data.sources import SampleSource
from flops_fit.data.targets import measure_targets
from flops_fit.errors import ContractError, DataExhausted


@dataclass(frozen=True, eq=False)
class MapSource:
    """A map-style data set: ``dataset[i]`` is one sample."""

    dataset: Any
    collate_fn: Callable[[list[Any]], Any] = default_collate
    num_workers: int = 0
    """Processes that read samples ahead of the training loop."""

    @cached_property
    def tokens_per_sample(self) -> int:
        """Mean number of targets that are not -100, where targets are sequences; else 1."""
        return measure_targets(self).tokens_per_sample

    @property
    def num_samples(self) -> int:
        """Length of the data set."""
        return len(self.dataset)

    @property
    def fingerprint(self) -> str:
        """Of the length and of raw samples spread over the data set (`contents.digest_data`)."""
        return self._contents[0]

    @property
    def is_random(self) -> bool:
        """Whether a sample is another one each time it is read."""
        return self._contents[1]

    @property
    def is_indexed(self) -> bool:
        """Whether a batch is one index per column, faster than worker processes could hand over its samples."""
        return self._reader is not None

    @cached_property
    def _reader(self) -> Reader | None:
        return column_reader(self.dataset) if self.collate_fn is default_collate else None

    @cached_property
    def _contents(self) -> tuple[str, bool]:
        return digest_data(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        # Views of a table would be pickled as copies.
        return {name: value for name, value in self.__dict__.items() if name != "_reader"}

    def batch(self, ids: NDArray[np.int64]) -> Any:
        """Collates the samples ``ids``."""
        if self._reader is not None:
            return self._reader(ids)
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
        """Mean number of targets that are not -100 in the first samples, where targets are sequences; else 1."""
        return measure_targets(self).tokens_per_sample

    @property
    def fingerprint(self) -> str:
        """Of the first samples."""
        return self._contents[0]

    @property
    def is_random(self) -> bool:
        """Whether the samples are others each time the stream is read."""
        return self._contents[1]

    @cached_property
    def _contents(self) -> tuple[str, bool]:
        return digest_stream(self.first)

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
        samples = [s for _, s in zip(range(count), iter(self.dataset), strict=False)]
        if not samples:
            raise ContractError("dataset: got an empty stream, expected at least one sample.")
        return samples

    def first_batches(self, count: int) -> Iterator[Any]:
        """Yields the first samples, each collated alone."""
        return (self.collate_fn([sample]) for sample in self.first(count))


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


def unwrapped(source: SampleSource) -> SampleSource:
    """Returns the source that a view looks at, or the source itself."""
    while isinstance(source, SourceView):
        source = source.source
    return source
