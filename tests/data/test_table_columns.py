"""A batch that is read by columns is, to the bit, the default collation of its samples."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate

from flops_fit.data import MapSource, as_source, columns, split_held_out
from flops_fit.data.randomness import Draws
from flops_fit.data.reading import read_pieces
from flops_fit.data.targets import check_targets, measure_targets
from flops_fit.errors import ContractError

datasets = pytest.importorskip("datasets")
ROWS = 50
IDS = np.array([7, 0, 49, 7, 23], dtype=np.int64)
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 500, (ROWS, 6))


def table(features=None, **values):
    return datasets.Dataset.from_dict(values, features=features)


def tokenized():
    """As a tokenizer leaves it: int32 ids, an int8 mask."""
    columns = {"input_ids": TOKENS.astype(np.int32), "attention_mask": np.ones((ROWS, 6), np.int8), "labels": TOKENS}
    return table(**columns)


def chunked():
    return tokenized().map(lambda rows: rows, batched=True, writer_batch_size=9).with_format("torch")


def beside():
    floats = table(weight=RNG.standard_normal(ROWS).tolist()).with_format("torch")
    return datasets.concatenate_datasets([chunked(), floats], axis=1).with_format("torch")


def in_features(kind, values):
    return table(x=values, features=datasets.Features({"x": kind})).with_format("torch")


BY_COLUMN = {
    "int32, int8 and int64": lambda: tokenized().with_format("torch"),
    "numpy": lambda: tokenized().with_format("numpy"),
    "several chunks": chunked,
    "chunks of two tables side by side": beside,
    "two tables end to end": lambda: datasets.concatenate_datasets([chunked(), chunked()]).select(range(20, 90)),
    "shuffled": lambda: datasets.concatenate_datasets([chunked(), chunked()]).shuffle(seed=0),
    "a part, and a part of it": lambda: chunked().select(range(1, 50)).train_test_split(10, seed=0)["train"],
    "some columns": lambda: tokenized().with_format("torch", columns=["labels", "input_ids"]),
    "numbers, not rows": lambda: table(x=RNG.standard_normal(ROWS), y=[i % 3 for i in range(ROWS)]),
    "float64 and float16": lambda: table(x=RNG.standard_normal((ROWS, 2)), y=np.ones(ROWS, np.float16)).with_format(
        "torch"
    ),
    "nan": lambda: table(x=np.full(ROWS, np.nan)).with_format("torch"),
    "matrices": lambda: table(x=RNG.integers(0, 9, (ROWS, 2, 3, 4))).with_format("torch"),
    "Array2D": lambda: in_features(datasets.Array2D((3, 2), "float32"), RNG.standard_normal((ROWS, 3, 2)).tolist()),
    "a stated length": lambda: in_features(datasets.List(datasets.Value("uint16"), length=6), TOKENS.tolist()),
    "classes": lambda: in_features(datasets.ClassLabel(num_classes=3), [i % 3 for i in range(ROWS)]),
    "a subset of a table": lambda: Subset(chunked(), range(0, 50)),
    "a subset of tensors": lambda: Subset(TensorDataset(torch.tensor(TOKENS), torch.ones(ROWS)), range(49, -1, -1)),
}


class Doubled(TensorDataset):
    def __getitem__(self, i):
        return tuple(2 * x for x in super().__getitem__(i))


def by_sample(dataset):
    return default_collate([dataset[int(i) % len(dataset)] for i in IDS])


def assert_identical(found, expected):
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = found.values(), expected.values()
    for a, b in zip(found, expected, strict=True):
        assert type(a) is type(b)
        if isinstance(b, torch.Tensor):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.is_contiguous()
            assert torch.equal(torch.nan_to_num(a.double(), 7), torch.nan_to_num(b.double(), 7))
        else:
            assert a == b


@pytest.mark.parametrize("copied", [columns.MAX_COPIED, 0], ids=["joined", "in chunks"])
@pytest.mark.parametrize("kind", BY_COLUMN)
def test_a_table_of_numbers_is_read_by_columns(kind, copied, monkeypatch):
    monkeypatch.setattr(columns, "MAX_COPIED", copied)
    dataset = BY_COLUMN[kind]()
    source = MapSource(dataset)
    assert source.is_indexed
    assert_identical(source.batch(IDS % len(dataset)), by_sample(dataset))


BY_SAMPLE = {
    "lists": tokenized,
    "a column of text": lambda: table(x=TOKENS, name=["a"] * ROWS).with_format("torch"),
    "text, left out of the format": lambda: table(x=TOKENS, name=["a"] * ROWS).with_format(
        "torch", columns=["x"], output_all_columns=True
    ),
    "bool": lambda: table(x=TOKENS > 250).with_format("torch"),
    "uint64": lambda: in_features(datasets.Value("uint64"), list(range(ROWS))),
    "a stated dtype": lambda: table(x=TOKENS).with_format("torch", dtype=torch.float32),
    "a transform": lambda: table(x=TOKENS).with_transform(lambda rows: {"x": [torch.tensor(r) + 1 for r in rows["x"]]}),
    "a struct": lambda: table(x=[{"a": i, "b": [i, i]} for i in range(ROWS)]).with_format("torch"),
    "images": lambda: in_features(datasets.Image(), list(RNG.integers(0, 255, (ROWS, 4, 4, 3), dtype=np.uint8))),
    "tensors with a __getitem__ of their own": lambda: Doubled(torch.tensor(TOKENS), torch.ones(ROWS)),
}


@pytest.mark.parametrize("kind", BY_SAMPLE)
def test_other_samples_are_collated_one_by_one(kind):
    dataset = BY_SAMPLE[kind]()
    source = MapSource(dataset)
    assert not source.is_indexed
    found, expected = source.batch(IDS), by_sample(dataset)
    if kind == "lists":
        assert all(map(torch.equal, found["labels"], expected["labels"]))
    elif kind == "a struct":
        assert torch.equal(found["x"]["b"], expected["x"]["b"])
    else:
        assert_identical(found, expected)


@pytest.mark.parametrize("odd", [None, [1, 2, 3, 4, 5, None]], ids=["a row is missing", "a number is missing"])
def test_a_missing_value_leaves_the_table_to_its_format(odd):
    dataset = table(x=[*TOKENS.tolist()[:-1], odd]).with_format("torch")
    assert not MapSource(dataset).is_indexed


def test_a_collation_of_ones_own_is_called():
    dataset = DataLoader(chunked(), collate_fn=lambda rows: {"x": torch.stack([-row["labels"] for row in rows])})
    source = as_source(dataset)
    assert not source.is_indexed
    assert torch.equal(source.batch(IDS)["x"], -torch.tensor(TOKENS[IDS]))


# 16 rows spread over the table are compared; these lengths differ between them.
@pytest.mark.parametrize("short", [0, 1, 30, 49])
def test_one_row_of_another_length_is_refused_as_before(short):
    rows = TOKENS.tolist()
    rows[short] = rows[short][:-1]
    source = as_source(table(input_ids=rows, labels=rows).with_format("torch"))
    assert not source.is_indexed
    with pytest.raises(ContractError, match="5 to 6 targets, tensors of shapes such as"):
        check_targets(measure_targets(source))


def test_the_fingerprint_is_that_of_the_samples():
    by_column, by_sample = as_source(chunked()), as_source([chunked()[i] for i in range(ROWS)])
    assert by_column.is_indexed
    assert by_column.fingerprint == by_sample.fingerprint
    assert split_held_out(by_column)[0].fingerprint == split_held_out(by_sample)[0].fingerprint


def test_a_run_reads_the_same_batches_with_workers_asked_for_and_draws_nothing():
    source = as_source(DataLoader(chunked(), num_workers=2))
    draws = Draws(0)
    before = torch.get_rng_state()
    (batch,) = read_pieces(source, [(IDS, range(5))], draws)
    assert_identical(batch, by_sample(chunked()))
    assert torch.equal(torch.get_rng_state(), before)
    assert not draws.is_random


def test_a_batch_is_the_callers_own():
    source = as_source(chunked())
    source.batch(IDS)["labels"].zero_()
    assert torch.equal(source.batch(IDS)["labels"], torch.tensor(TOKENS[IDS]))


def test_a_source_is_sent_without_copies_of_its_table():
    source = MapSource(TensorDataset(torch.arange(9), torch.arange(9)))
    before = len(pickle.dumps(source))
    source.batch(np.array([3]))
    assert len(pickle.dumps(source)) == before
    assert pickle.loads(pickle.dumps(source)).batch(np.array([3]))[0].tolist() == [3]
