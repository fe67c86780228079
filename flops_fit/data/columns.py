"""Columns: batches of tensors, and of `datasets` tables, by one index per column instead of one collation per sample.

A batch is bit for bit what `default_collate` makes of the samples. Of a table that is checked on rows spread over it
before the short way is taken; where they differ, or a column is not numbers of one shape, there is no short way.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Subset, TensorDataset, default_collate

if TYPE_CHECKING:
    import pyarrow as pa

Reader = Callable[[NDArray[np.int64]], Any]
"""Takes ids of samples, shape (b,), and returns their batch."""

FORMATS = (None, "numpy", "torch")
# Rows of a table that are collated both ways.
CHECKED_ROWS = 16
# Bytes of a column up to which its chunks (1,000 rows each after a ``map``) are copied into one array, which is read
# three times as fast; above, they stay where they are, in memory or in the mapped file.
MAX_COPIED = 2**26


def column_reader(dataset: Any) -> Reader | None:
    """Returns what reads a batch by columns; None where only ``dataset[i]`` tells what a sample is."""
    if isinstance(dataset, TensorDataset) and type(dataset).__getitem__ is TensorDataset.__getitem__:
        return lambda ids: tuple(tensor[torch.from_numpy(ids)] for tensor in dataset.tensors)
    if type(dataset) is Subset and (read := column_reader(dataset.dataset)) is not None:
        chosen = np.asarray(dataset.indices, dtype=np.int64)
        return lambda ids: read(chosen[ids])
    # A table can only come from `datasets`, which is not imported for other data.
    if "datasets" in sys.modules and type(dataset) is sys.modules["datasets"].Dataset:
        return _table_reader(dataset)
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Column:
    """Numbers of one shape for each row."""

    chunks: list[NDArray[Any]]
    """Each of shape (rows, ...)."""
    starts: NDArray[np.int64]
    """First row of each chunk."""
    dtype: torch.dtype
    """Of the batch, which the format of the table decides."""

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor:
        first = self.chunks[0]
        if len(self.chunks) == 1:
            return torch.from_numpy(first[rows]).to(self.dtype)
        chunk_of = np.searchsorted(self.starts, rows, side="right") - 1
        out = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        for k, (chunk, row) in enumerate(zip(chunk_of.tolist(), (rows - self.starts[chunk_of]).tolist(), strict=True)):
            out[k] = self.chunks[chunk][row]
        return torch.from_numpy(out).to(self.dtype)


def _table_reader(dataset: Any) -> Reader | None:
    form = dataset.format
    if form["type"] not in FORMATS or form["format_kwargs"] or form["output_all_columns"]:
        return None
    picks = np.unique(np.linspace(0, len(dataset) - 1, CHECKED_ROWS).astype(np.int64))
    try:
        expected = default_collate([dataset[int(i)] for i in picks])
    except Exception:
        return None  # Reading it sample by sample raises the same, where it can be explained.
    columns: dict[str, _Column] = {}
    for name, values in expected.items():
        chunks = _views(dataset.data.column(name))
        if chunks is None or not isinstance(values, torch.Tensor):
            return None
        starts = np.cumsum([0, *map(len, chunks[:-1])], dtype=np.int64)
        columns[name] = _Column(chunks=chunks, starts=starts, dtype=values.dtype)
    moved = _selected_rows(dataset)

    def read(ids: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        rows = ids if moved is None else moved[ids]
        return {name: column.take(rows) for name, column in columns.items()}

    return read if columns and _is_identical(read(picks), expected) else None


def _selected_rows(dataset: Any) -> NDArray[np.int64] | None:
    """Rows of the table that the data set holds, in its order (``select``, ``shuffle``); None for all as they are."""
    indices = dataset._indices
    if indices is None:
        return None
    return np.asarray(indices.column(0).to_numpy(), dtype=np.int64)


def _views(column: "pa.ChunkedArray") -> list[NDArray[Any]] | None:
    found = []
    for chunk in column.chunks:
        if len(chunk):
            view = _view(chunk)
            if view is None:
                return None
            found.append(view)
    if len({(view.shape[1:], view.dtype) for view in found}) != 1:
        return None
    return [np.concatenate(found)] if len(found) > 1 and sum(v.nbytes for v in found) <= MAX_COPIED else found


def _view(array: "pa.Array") -> NDArray[Any] | None:
    """Numbers of an array, not copied, shape (rows, ...); None for other values and where rows differ in shape."""
    import pyarrow as pa  # Here, because only tables need it.

    if array.null_count:
        return None
    if isinstance(array, pa.ExtensionArray):
        return _view(array.storage)
    if isinstance(array, pa.FixedSizeListArray):
        length = array.type.list_size
    elif isinstance(array, (pa.ListArray, pa.LargeListArray)):
        lengths = np.diff(array.offsets.to_numpy())
        if not len(lengths) or (lengths != lengths[0]).any():
            return None
        length = int(lengths[0])
    elif pa.types.is_floating(array.type) or (pa.types.is_integer(array.type) and array.type != pa.uint64()):
        return np.asarray(array.to_numpy(zero_copy_only=True))
    else:
        return None
    inner = _view(array.flatten())
    return None if inner is None else inner.reshape(len(array), length, *inner.shape[1:])


def _is_identical(batch: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    return all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bytes(a), _bytes(b))
        for a, b in zip(batch.values(), expected.values(), strict=True)
    )


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
