"""Data sets of users as numbered samples: what is accepted, and what is refused with a way out."""

import logging
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, default_collate

from flops_fit.data.samples import MapSource, SourceView, StreamSource
from flops_fit.data.sources import SampleSource
from flops_fit.errors import ContractError

HELD_OUT_FRACTION = 0.06
MAX_HELD_OUT = 4096

logger = logging.getLogger(__name__)


def as_source(dataset: Any) -> SampleSource:
    """Wraps a data set: map-style, iterable, a DataLoader, or a `SampleSource` as it is.

    Of a DataLoader the data set, ``collate_fn`` and ``num_workers`` are used; order and batch size are the plan's.

    Raises:
        ContractError: If it is none of these, is empty, or is collated to anything but tensors.
    """
    if isinstance(dataset, SampleSource):
        return dataset
    collate: Callable[[list[Any]], Any] = default_collate
    num_workers = 0
    if isinstance(dataset, DataLoader):
        _check_loader(dataset)
        dataset, collate, num_workers = dataset.dataset, dataset.collate_fn, dataset.num_workers
    _check_kind(dataset)
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
        source = MapSource(dataset, collate, num_workers)
    first = source.first(1)[0] if isinstance(source, StreamSource) else dataset[0]
    try:
        batch = collate([first])
    except Exception as error:
        _check_columns(first, first)
        raise ContractError(
            f"dataset: its first sample cannot be collated: {type(error).__name__}: {error}. Expected "
            "(inputs, targets) or a mapping, of tensors, arrays or numbers; or give a DataLoader with a collate_fn."
        ) from error
    _check_columns(first, batch)
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


def _check_kind(dataset: Any) -> None:
    if isinstance(dataset, (str, bytes, PurePath)):
        raise ContractError(
            f"dataset: got the path {str(dataset)!r}, expected a data set. Load it: for text, "
            "datasets.load_dataset('text', data_files=path, split='train'), then tokenize it with .map(...)."
        )
    if isinstance(dataset, Mapping):
        parts = [str(name) for name in dataset]
        train = "train" if "train" in parts else parts[0] if parts else "train"
        held_out = next((p for p in ("validation", "test", "eval") if p in parts), None)
        second = f", eval_dataset=data[{held_out!r}]" if held_out else ""
        raise ContractError(
            f"dataset: got a {type(dataset).__name__} with the parts {parts}, expected one data set: "
            f"dataset=data[{train!r}]{second}."
        )
    if isinstance(dataset, type) or not (hasattr(dataset, "__getitem__") or hasattr(dataset, "__iter__")):
        raise ContractError(
            f"dataset: got {dataset!r}, expected a map-style data set (__getitem__ and __len__), an iterable, "
            "or a DataLoader."
        )


def _check_columns(first: Any, batch: Any) -> None:
    """Refuses strings and lists where a model expects tensors, by name and with the call that makes them tensors."""
    if isinstance(first, str):
        raise ContractError(
            f"dataset: its samples are strings such as {first[:40]!r}, expected token ids. Tokenize them and cut the "
            "tokens into samples of one length, (inputs, targets) each."
        )
    if not isinstance(batch, Mapping):
        return
    texts = [k for k, v in batch.items() if _holds_text(v)]
    if texts:
        row = first if isinstance(first, Mapping) else {}
        lists = [k for k in batch if k not in texts and isinstance(row.get(k), list)]
        if not lists and not any(_is_array(row.get(k)) for k in batch):
            raise ContractError(_tokenize_advice(row, texts))
        form = ".with_format('torch')" if lists else ""
        raise ContractError(
            f"dataset: the columns {texts} hold strings, expected tensors. Drop them: "
            f"dataset.remove_columns({texts!r}){form}."
        )
    lists = [k for k, v in batch.items() if isinstance(v, list)]
    if lists:
        raise ContractError(
            f"dataset: the columns {lists} hold Python lists, expected tensors. "
            "For a Hugging Face data set use dataset.with_format('torch')."
        )


def _tokenize_advice(row: Mapping[str, Any], texts: list[str]) -> str:
    """Names the column of text and the call that makes samples of T tokens of it: packed, or one row a sample."""
    text = "text" if "text" in texts else max(texts, key=lambda k: len(str(row.get(k, ""))))
    label = next((k for k in ("labels", "label") if k in row and k not in texts), None)
    drop = [k for k in row if k != label] or texts
    if label is None:
        tokens = f"sum(tokenizer(rows[{text!r}])['input_ids'], [])"
        rows = f"{{'input_ids': (ids := [*zip(*[iter({tokens})] * T)]), 'labels': ids}}"
        made = "samples of T tokens, their labels the same, which a causal model shifts itself"
    else:
        rows = f"tokenizer(rows[{text!r}], truncation=True, padding='max_length', max_length=T)"
        made = f"samples of T tokens, padded, with {label!r} as their labels"
    rename = ".rename_column('label', 'labels')" if label == "label" else ""
    return (
        f"dataset: the column {text!r} holds strings, expected token ids. Tokenize it: dataset = dataset.map("
        f"lambda rows: {rows}, batched=True, remove_columns={drop!r}){rename}.with_format('torch') - {made}."
    )


def _is_array(value: Any) -> bool:
    """Whether a value of a row is data for a model: a tensor, an array or an image, not a number."""
    return hasattr(value, "__array_interface__") or (isinstance(value, torch.Tensor) and value.ndim > 0)


def _holds_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and isinstance(value[0], str))


def _check_loader(loader: "DataLoader[Any]") -> None:
    """Refuses a loader without batches, and says which of its settings the sweep replaces."""
    if loader.batch_size is None and loader.batch_sampler is None:
        raise ContractError(
            "dataset: got DataLoader(batch_size=None), whose data set makes the batches itself; expected samples, "
            "which the sweep collects into batches of its own. Give a data set of single samples."
        )
    replaced = []
    if loader.num_workers and isinstance(loader.dataset, torch.utils.data.IterableDataset):
        replaced.append(f"num_workers={loader.num_workers} (a stream is read in the training process, in its order)")
    if not isinstance(loader.sampler, (RandomSampler, SequentialSampler)) and _has_own_sampler(loader):
        replaced.append(f"sampler={type(loader.sampler).__name__} (each epoch is a permutation of all samples)")
    elif type(loader.batch_sampler) is not torch.utils.data.BatchSampler and loader.batch_sampler is not None:
        replaced.append(f"batch_sampler={type(loader.batch_sampler).__name__} (the recipe sets the batch size)")
    if loader.drop_last:
        replaced.append("drop_last (steps go on across epochs)")
    log = logger.warning if replaced else logger.info
    replaced.append("batch_size and shuffle (recipe and plan set them)")
    log("DataLoader: its data set, collate_fn and workers are used; replaced are %s", ", ".join(replaced))


def _has_own_sampler(loader: "DataLoader[Any]") -> bool:
    return not isinstance(loader.dataset, torch.utils.data.IterableDataset)
