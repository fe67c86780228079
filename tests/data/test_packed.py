import json
import os

import numpy as np
import pytest

from flops_fit.data import PackedTokens, SampleSource, pack_tokens
from flops_fit.errors import InputError, StoreError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.bin"


def test_each_token_is_a_target_once(path):
    pack_tokens([np.arange(10, dtype=np.uint16), np.arange(10, 21, dtype=np.uint16)], path)
    source = PackedTokens(path, 4)
    assert isinstance(source, SampleSource)
    assert (source.num_samples, source.tokens_per_sample) == (5, 4)
    inputs, targets = source.batch(np.arange(5))
    assert inputs.flatten().tolist() == list(range(20))
    assert targets.flatten().tolist() == list(range(1, 21))


def test_samples_come_in_the_order_asked_for(path):
    pack_tokens([np.arange(21, dtype=np.uint8)], path)
    inputs, _ = PackedTokens(path, 4).batch(np.array([3, 0]))
    assert inputs.tolist() == [[12, 13, 14, 15], [0, 1, 2, 3]]


def test_the_fingerprint_is_of_content_and_length_not_of_place(path, tmp_path):
    other = tmp_path / "other.bin"
    for target in (path, other):
        pack_tokens([np.arange(21, dtype=np.uint8)], target)
    assert PackedTokens(path, 4).fingerprint == PackedTokens(other, 4).fingerprint != PackedTokens(path, 5).fingerprint
    pack_tokens([np.arange(1, 22, dtype=np.uint8)], other)
    assert PackedTokens(path, 4).fingerprint != PackedTokens(other, 4).fingerprint


def test_a_file_that_was_cut_is_refused(path):
    pack_tokens([np.arange(21, dtype=np.uint8)], path)
    os.truncate(path, 20)
    with pytest.raises(InputError, match="expected 21 bytes"):
        PackedTokens(path, 4)


@pytest.mark.parametrize("about", [None, "{", json.dumps({"dtype": "uint8", "count": 99, "sha256": "0"})])
def test_a_missing_torn_or_wrong_description_is_refused(path, about):
    pack_tokens([np.arange(21, dtype=np.uint8)], path)
    path.with_suffix(".json").unlink()
    if about is not None:
        path.with_suffix(".json").write_text(about)
    with pytest.raises(InputError):
        PackedTokens(path, 4)


def test_too_few_tokens_for_one_sample_are_refused(path):
    pack_tokens([np.arange(4, dtype=np.uint8)], path)
    with pytest.raises(InputError, match="hold no sample of seq_len=4"):
        PackedTokens(path, 4)


@pytest.mark.parametrize("arrays", [[], [np.zeros(3, dtype=np.int64)], [np.zeros(3, np.uint8), np.zeros(3, np.uint16)]])
def test_what_cannot_be_packed_leaves_no_file(path, arrays):
    with pytest.raises(InputError):
        pack_tokens(arrays, path)
    assert list(path.parent.iterdir()) == []


def test_a_disk_that_refuses_is_a_store_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        pack_tokens([np.zeros(3, dtype=np.uint8)], tmp_path / "file" / "tokens.bin")
