"""Any data set becomes numbered samples, or says why it cannot."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ChainData
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from flops_fit.data import MapSource, SampleSource, StreamSource, as_source, split_held_out
from flops_fit.errors import ContractError, DataExhausted


class Stream(IterableDataset):
    """Counts how often it is begun."""

    def __init__(self, size=100):
        self.size, self.begun = size, 0

    def __iter__(self):
        self.begun += 1
        data = ChainData(self.size)
        return (data[i] for i in range(self.size))


def ids(*values):
    return np.array(values, dtype=np.int64)


def test_a_map_style_data_set_gives_the_samples_asked_for():
    data = ChainData()
    source = as_source(data)
    inputs, targets = source.batch(ids(5, 0, 5))
    assert torch.equal(inputs, data.tokens[[5, 0, 5], :-1])
    assert torch.equal(targets, data.tokens[[5, 0, 5], 1:])
    assert (source.num_samples, source.tokens_per_sample) == (512, 16)


def test_a_source_is_taken_as_it_is():
    source = as_source(ChainData())
    assert isinstance(source, SampleSource)
    assert as_source(source) is source


def test_a_plain_list_of_pairs_is_a_data_set():
    source = as_source([(torch.zeros(4), torch.tensor(1)), (torch.ones(4), torch.tensor(0))])
    inputs, targets = source.batch(ids(1, 0))
    assert inputs.tolist() == [[1.0] * 4, [0.0] * 4]
    assert targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("target", "tokens"),
    [(torch.zeros(7, dtype=torch.long), 7), (torch.tensor(3), 1), (torch.zeros(7), 1), (4, 1)],
    ids=["a sequence of classes", "a class", "a vector of numbers", "a Python int"],
)
def test_a_sample_counts_for_as_many_tokens_as_it_has_targets(target, tokens):
    assert as_source([(torch.zeros(7), target)]).tokens_per_sample == tokens


def test_of_a_data_loader_the_data_and_the_collation_are_taken_not_the_order():
    def collate(samples):
        return torch.stack([s[0] for s in samples]) + 1, torch.stack([s[1] for s in samples])

    source = as_source(DataLoader(ChainData(), batch_size=4, shuffle=True, collate_fn=collate))
    assert torch.equal(source.batch(ids(3))[0], ChainData().tokens[[3], :-1] + 1)


def test_a_data_loader_over_a_stream_is_a_stream():
    source = as_source(DataLoader(Stream(), batch_size=4))
    assert isinstance(source, StreamSource)
    assert torch.equal(source.batch(ids(2))[0], ChainData(100).tokens[[2], :-1])


def test_a_stream_is_read_in_order_and_skips_what_others_take():
    stream = Stream()
    source = as_source(stream)
    stream.begun = 0
    batches = [source.batch(ids(0, 1)), source.batch(ids(4, 5)), source.batch(ids(9))]
    expected = ChainData(100).tokens[[0, 1, 4, 5, 9], :-1]
    assert torch.equal(torch.cat([b[0] for b in batches]), expected)
    assert stream.begun == 1


def test_a_stream_begins_anew_for_the_next_run():
    source = as_source(Stream())
    first = source.batch(ids(0, 1))
    source.batch(ids(50))
    assert torch.equal(source.batch(ids(0, 1))[0], first[0])


def test_a_stream_that_ends_says_where():
    with pytest.raises(DataExhausted, match="ended after 100 samples and sample 100 was planned"):
        as_source(Stream()).batch(ids(99, 100))


def test_what_can_be_read_only_once_or_not_at_all_is_refused():
    with pytest.raises(ContractError, match="only once"):
        as_source(iter([(1, 2)]))
    with pytest.raises(ContractError, match="empty stream"):
        as_source(Stream(0))


def test_hugging_face_columns_become_tensors_with_format():
    datasets = pytest.importorskip("datasets")
    columns = {"input_ids": [[1, 2, 3], [4, 5, 6]], "labels": [[2, 3, -100], [5, 6, -100]]}
    raw = datasets.Dataset.from_dict(columns)
    source = as_source(raw.with_format("torch"))
    assert isinstance(source, MapSource)
    # Labels that the loss ignores are no targets.
    assert source.tokens_per_sample == 2
    batch = source.batch(ids(1, 0))
    assert batch["input_ids"].tolist() == [[4, 5, 6], [1, 2, 3]]
    with pytest.raises(ContractError, match=r"with_format\('torch'\)"):
        as_source(raw)


def test_a_hugging_face_stream_is_a_stream():
    datasets = pytest.importorskip("datasets")
    rows = [{"input_ids": [i, i + 1], "labels": [i + 1, i + 2]} for i in range(6)]
    stream = datasets.IterableDataset.from_generator(lambda: iter(rows)).with_format("torch")
    source = as_source(stream)
    assert source.num_samples is None
    assert source.batch(ids(2, 4))["input_ids"].tolist() == [[2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("given", "message"),
    [(7, "expected a map-style data set"), (ChainData, "expected a map-style data set"), ([], "got 0 samples")],
    ids=["a number", "a class", "nothing"],
)
def test_what_is_no_data_set_is_refused(given, message):
    with pytest.raises(ContractError, match=message):
        as_source(given)


def test_equal_data_has_an_equal_fingerprint_and_other_data_another():
    assert as_source(ChainData()).fingerprint == as_source(ChainData()).fingerprint
    assert as_source(ChainData()).fingerprint != as_source(ChainData(seed=1)).fingerprint
    assert as_source(ChainData(100)).fingerprint != as_source(Stream(101)).fingerprint


def test_dtypes_are_part_of_the_fingerprint():
    ints = TensorDataset(torch.zeros(4, dtype=torch.int64), torch.zeros(4))
    floats = TensorDataset(torch.zeros(4, dtype=torch.float64), torch.zeros(4))
    assert as_source(ints).fingerprint != as_source(floats).fingerprint


def test_held_out_samples_are_never_trained_on_and_always_the_same():
    train, held_out = split_held_out(as_source(ChainData()))
    again, _ = split_held_out(as_source(ChainData()))
    assert not set(train.ids) & set(held_out.ids)
    assert sorted([*train.ids, *held_out.ids]) == list(range(512))
    assert held_out.num_samples == round(0.06 * 512)
    assert train.fingerprint == again.fingerprint != held_out.fingerprint


def test_a_view_counts_from_zero():
    train, _ = split_held_out(as_source(ChainData()))
    assert torch.equal(train.batch(ids(3))[0], ChainData().tokens[train.ids[[3]], :-1])


def test_a_single_sample_and_a_stream_cannot_be_split():
    with pytest.raises(ContractError, match="at least 2"):
        split_held_out(as_source(ChainData(1)))
    with pytest.raises(ContractError, match="Give eval_dataset"):
        split_held_out(as_source(Stream()))


@pytest.mark.parametrize("path", ["corpus.txt", Path("corpus.txt")])
def test_a_path_is_no_data_set(path):
    with pytest.raises(ContractError, match=r"got the path 'corpus.txt'.*load_dataset"):
        as_source(path)


def test_strings_are_to_be_tokenized():
    with pytest.raises(ContractError, match="samples are strings such as 'one', expected token ids"):
        as_source(["one", "two"])


def test_a_dict_of_splits_names_the_arguments():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"x": [1.0]})
    with pytest.raises(ContractError, match=r"dataset=data\['train'\], eval_dataset=data\['validation'\]"):
        as_source(datasets.DatasetDict(train=rows, validation=rows))


def test_a_column_of_text_is_named_with_the_call_that_tokenizes_it():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": ["one", "two"]})
    for data in (rows, rows.with_format("torch")):
        with pytest.raises(ContractError, match=r"column 'text' holds strings.*tokenizer\(rows\['text'\]"):
            as_source(data)


class WordTokenizer:
    """Called as tokenizers of transformers are: a list of texts becomes lists of ids, of one length where asked."""

    def __call__(self, texts, *, truncation=False, padding=False, max_length=None):
        ids = [[len(word) for word in text.split()] for text in texts]
        if padding == "max_length":
            ids = [(row + [0] * max_length)[:max_length] for row in ids]
        return {"input_ids": ids}


@pytest.mark.parametrize(
    ("columns", "tokens", "labels"),
    [
        ({"text": ["a bb", "ccc d ee"]}, [[1, 2], [3, 1]], [[1, 2], [3, 1]]),
        ({"id": [7, 8], "url": ["u", "v"], "text": ["a bb", "ccc d ee"]}, [[1, 2], [3, 1]], [[1, 2], [3, 1]]),
        ({"title": ["a", "b"], "body": ["a bb", "ccc d ee"]}, [[1, 2], [3, 1]], [[1, 2], [3, 1]]),
        ({"text": ["a bb", "ccc"], "label": [1, 0]}, [[1, 2], [3, 0]], [1, 0]),
    ],
    ids=["text alone", "beside an id and a string", "the longest of two", "classes"],
)
@pytest.mark.parametrize("as_stream", [False, True])
def test_the_call_that_tokenizes_text_makes_a_data_set_of_it(columns, tokens, labels, as_stream):
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict(columns)
    dataset = dataset.to_iterable_dataset() if as_stream else dataset
    with pytest.raises(ContractError) as error:
        as_source(dataset)
    assert "\n" not in str(error.value)
    call = re.search(r"Tokenize it: (dataset = .*) - ", str(error.value))[1]
    scope = {"dataset": dataset, "tokenizer": WordTokenizer(), "T": 2}
    exec(call, scope)
    batch = as_source(scope["dataset"]).batch(ids(0, 1))
    assert (batch["input_ids"].tolist(), batch["labels"].tolist()) == (tokens, labels)


def test_a_column_of_text_beside_tensors_is_to_be_dropped():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"x": [[1.0], [2.0]], "name": ["one", "two"]}).with_format("torch")
    with pytest.raises(ContractError, match=r"remove_columns\(\['name'\]\)"):
        as_source(rows)


def test_lists_that_a_collation_makes_tensors_of_are_data():
    def collate(rows):
        return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}

    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 4
    assert as_source(DataLoader(rows, collate_fn=collate)).tokens_per_sample == 3


def test_what_cannot_be_collated_says_why():
    with pytest.raises(ContractError, match="first sample cannot be collated: TypeError"):
        as_source([(None, 1)])


def test_a_loader_that_does_not_batch_is_refused():
    with pytest.raises(ContractError, match=r"DataLoader\(batch_size=None\)"):
        as_source(DataLoader(ChainData(), batch_size=None))


def test_what_of_a_loader_is_replaced_is_said_in_one_line(caplog):
    sampler = WeightedRandomSampler([1.0] * 512, 100)
    as_source(DataLoader(ChainData(), batch_size=8, sampler=sampler, num_workers=2, drop_last=True))
    (record,) = caplog.records
    assert all(word in record.message for word in ("WeightedRandomSampler", "drop_last", "collate_fn"))
    assert "num_workers" not in record.message


def test_a_plain_loader_is_taken_without_a_warning(caplog):
    as_source(DataLoader(ChainData(), batch_size=8, shuffle=True))
    assert not caplog.records
