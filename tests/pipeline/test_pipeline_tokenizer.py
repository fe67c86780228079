import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from flops_fit.errors import InputError
from flops_fit.pipeline.pack import encode
from flops_fit.pipeline.settings import SPECIALS
from flops_fit.pipeline.tokenizer import load_tokenizer, train_tokenizer

TEXTS = [f"the house number {i} is near the river, ¿cómo está la niña {i}?" for i in range(200)]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_str(train_tokenizer(TEXTS, 300).decode())


@given(st.text())
def test_any_text_comes_back_as_it_was(text):
    tokenizer = made()
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize(
    "text", ["¿Cómo estás, niño? ¡Qué día!", "<bos> and <eos> in a text", "\0\t \u2028 日本 🙂\r\n  "]
)
def test_marks_and_names_of_special_entries_are_text_like_any_other(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert not set(tokenizer.encode(text).ids) & {tokenizer.token_to_id(name) for name in SPECIALS}


def test_the_size_is_what_was_asked_for_or_what_the_text_gives():
    assert Tokenizer.from_str(train_tokenizer(TEXTS, 300).decode()).get_vocab_size() == 300
    assert Tokenizer.from_str(train_tokenizer(TEXTS, 257).decode()).get_vocab_size() == 256 + len(SPECIALS)
    assert Tokenizer.from_str(train_tokenizer(["ab"], 1000).decode()).get_vocab_size() < 300


def test_training_twice_gives_the_same_file():
    assert train_tokenizer(TEXTS, 320) == train_tokenizer(TEXTS, 320)


def test_documents_stand_between_begin_and_end(tokenizer):
    bos, eos = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<eos>")
    ids = encode(tokenizer, ["the house", "near"]).tolist()
    assert ids == [bos, *tokenizer.encode("the house").ids, eos, bos, *tokenizer.encode("near").ids, eos]


def test_a_tokenizer_without_the_special_entries_is_refused(tmp_path):
    content = json.loads(train_tokenizer(TEXTS, 300))
    content["model"]["vocab"] = {k: v for k, v in content["model"]["vocab"].items() if k != "<eos>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"no entry <eos>.*--skip-tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_the_tokenizer_of_a_run_has_seen_the_training_side_only(finished):
    rows = [json.loads(line) for line in (finished / "corpus/documents.jsonl").read_text().splitlines()]
    training = [row["text"] for row in rows if row["split"] == "train"]
    assert (finished / "tokenizer/tokenizer.json").read_bytes() == train_tokenizer(training, 512)
    assert (finished / "model/tokenizer.json").read_bytes() == (finished / "tokenizer/tokenizer.json").read_bytes()


def made(cache=[]):  # noqa: B006  (one tokenizer for all examples that hypothesis draws)
    if not cache:
        cache.append(Tokenizer.from_str(train_tokenizer(TEXTS, 300).decode()))
    return cache[0]
