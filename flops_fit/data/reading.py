"""Reading of a run's samples: in this process, or ahead of it in the worker processes that a DataLoader asked for."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from flops_fit.data.randomness import Draws, drawn
from flops_fit.data.samples import MapSource, SourceView
from flops_fit.data.sources import SampleSource

Piece = tuple[NDArray[np.int64], range]
"""Ids of the samples of a micro-batch, shape (b,), and their positions in the run."""


def read_pieces(source: SampleSource, pieces: Iterable[Piece], draws: Draws) -> Iterator[Any]:
    """Yields the collated samples of each piece, in order; the same from worker processes as from this one.

    Args:
        source: Where from. Its ``num_workers`` processes, if any, read two pieces ahead each.
        pieces: What to read.
        draws: Seeds what the data set draws at random.
    """
    found = _workers_of(source)
    if found is None:
        for ids, positions in pieces:
            with draws.at(positions):
                batch = source.batch(ids)
            yield batch
        return
    mapped, ids_of = found
    keys = ([*zip(positions, ids_of(ids).tolist(), strict=True)] for ids, positions in pieces)
    yield from DataLoader(
        _SeededSamples(mapped.dataset, draws.seed),
        batch_sampler=keys,  # type: ignore[arg-type]
        collate_fn=mapped.collate_fn,
        num_workers=mapped.num_workers,
    )


class _SeededSamples(Dataset[Any]):
    """Samples by (position in the run, id), drawn as `Draws` draws them."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        position, i = key
        with Draws(self._seed).at([position]):
            return drawn(lambda: self._dataset[i], position)


def _workers_of(
    source: SampleSource,
) -> tuple[MapSource, Callable[[NDArray[np.int64]], NDArray[np.int64]]] | None:
    """The map-style data set behind a source that has workers, and where a source's ids stand in it."""
    if isinstance(source, MapSource):
        return (source, lambda ids: ids) if source.num_workers and not source.is_indexed else None
    if not isinstance(source, SourceView) or (found := _workers_of(source.source)) is None:
        return None
    mapped, ids_of = found
    return mapped, lambda ids: ids_of(source.ids[ids])
