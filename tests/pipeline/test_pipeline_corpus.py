import json
import re

import numpy as np
import pytest

from flops_fit.errors import InputError
from flops_fit.pipeline.corpus import SOURCES, download
from flops_fit.pipeline.documents import read_groups, split_groups, texts_of, thin_out
from flops_fit.pipeline.generator import generate_documents
from flops_fit.pipeline.generator.inflection import english_past, english_plural, spanish_adjective, spanish_plural
from flops_fit.pipeline.generator.lexicon import make_lexicon
from flops_fit.pipeline.settings import CorpusSettings


def paired(count):
    return [(("en", f"the text number {i} " * 5), ("es", f"el texto número {i} " * 5)) for i in range(count)]


def test_a_tenth_is_held_out_by_document_and_both_languages_stay_together():
    documents = split_groups(paired(400), "here")
    held_out = [d for d in documents if d.split == "val"]
    share = sum(len(d.text.encode()) for d in held_out) / sum(len(d.text.encode()) for d in documents)
    assert share == pytest.approx(0.1, abs=0.005)
    numbers = {lang: {re.search(r"\d+", d.text)[0] for d in held_out if d.lang == lang} for lang in ("en", "es")}
    assert numbers["en"] == numbers["es"]


def test_the_split_is_by_content_and_not_by_order():
    forward, backward = split_groups(paired(50), "here"), split_groups(paired(50)[::-1], "here")
    assert sorted(texts_of(forward, "val")) == sorted(texts_of(backward, "val"))
    assert texts_of(forward, "val") != texts_of(forward, "train")[: len(texts_of(forward, "val"))]


def test_no_text_stands_on_both_sides():
    # A line that is in several documents of two languages, and copies of whole documents.
    groups = [
        *paired(60),
        *paired(60),
        *((("en", "the same line " * 5), ("es", f"otra línea {i} " * 5)) for i in range(60)),
    ]
    documents = split_groups(groups, "here")
    assert not set(texts_of(documents, "train")) & set(texts_of(documents, "val"))


def test_paragraphs_are_the_documents_of_a_file_and_files_those_of_a_folder(tmp_path):
    text = "\n\n".join(f"paragraph {i}\nin two lines" for i in range(12))
    (tmp_path / "one.txt").write_text(text, encoding="utf-8")
    (tmp_path / "more").mkdir()
    for name in ("a.en.txt", "a.es.txt", "b.txt", "c.png"):
        (tmp_path / "more" / name).write_text(f"content of {name}", encoding="utf-8")
    assert len(read_groups([tmp_path / "one.txt"])) == 12
    assert read_groups([tmp_path / "more"]) == [
        (("en", "content of a.en.txt"), ("es", "content of a.es.txt")), ((None, "content of b.txt"),),
    ]  # fmt: skip


def test_a_file_without_paragraphs_is_read_by_lines(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(f"line {i}" for i in range(50)), encoding="utf-8")
    assert len(read_groups([tmp_path / "lines.txt"])) == 50


def test_paragraphs_of_two_languages_are_paired_only_where_there_are_as_many(tmp_path):
    for lang, count in (("en", 12), ("es", 12), ("fr", 11)):
        (tmp_path / f"book.{lang}.txt").write_text("\n\n".join(f"{lang} {i}" for i in range(count)))
    en, es, fr = (tmp_path / f"book.{lang}.txt" for lang in ("en", "es", "fr"))
    assert read_groups([en, es])[3] == (("en", "en 3"), ("es", "es 3"))
    assert read_groups([en, fr])[3] == (("en", "en 3"),)


def test_less_text_is_taken_evenly_from_every_file_and_language():
    groups = [((lang, f"{lang} {i} " * 100),) for lang in ("en", "es") for i in range(500)]
    kept = thin_out(groups, 0.1)
    size = {lang: sum(len(text) for group in kept for name, text in group if name == lang) for lang in ("en", "es")}
    assert sum(size.values()) == pytest.approx(1e5, rel=0.02)
    assert size["en"] == pytest.approx(size["es"], rel=0.05)
    assert thin_out(groups, 100) == groups


def test_too_little_text_and_a_wrong_encoding_are_refused_with_the_path(tmp_path):
    latin = tmp_path / "latin.txt"
    latin.write_bytes("a\u00f1o".encode("latin-1") * 1000)
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8"):
        read_groups([latin])
    with pytest.raises(InputError, match=r"nowhere\.txt does not exist"):
        read_groups([tmp_path / "nowhere.txt"])
    with pytest.raises(InputError, match=r"mine is too small: 10 bytes"):
        split_groups([((None, "ten bytes."),)], "mine")


def test_generated_text_is_the_same_for_a_seed_and_of_the_size_asked_for():
    first, again, other = (list(generate_documents(seed, 1e5)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    size = sum(len(text.encode()) for document in first for text in document.values())
    assert 1e5 <= size < 1.1e5


def test_generated_lexicons_hold_several_thousand_stems_in_each_language():
    lexicon = make_lexicon(np.random.default_rng(0))
    stems = [*lexicon.nouns, *lexicon.verbs, *lexicon.adjectives]
    assert len({s.english for s in stems}) == len({s.spanish for s in stems}) == len(stems) >= 3000


def test_generated_spanish_agrees_in_number_and_gender():
    text = " ".join(document["es"] for document in generate_documents(0, 2e5))
    # Real words whose gender the list states: an article and an adjective beside them must follow it.
    assert re.search(r"\blas casas\b", text)
    for wrong in (
        r"\b[Ee]l casas?\b",
        r"\b[Ll]os casas?\b",
        r"\b[Ll]as? jardín\b",
        r"\bcasas? \w+os\b",
        r"\b[Ll]as casa\b",
    ):
        assert not re.search(wrong, text), wrong


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (english_plural("story"), "stories"), (english_plural("box"), "boxes"), (english_plural("day"), "days"),
        (english_past("stop"), "stopped"), (english_past("study"), "studied"), (english_past("clean"), "cleaned"),
        (spanish_plural("jardín"), "jardines"), (spanish_plural("raíz"), "raíces"),
        (spanish_adjective("rojo", feminine=True, plural=True), "rojas"),
        (spanish_adjective("débil", feminine=True, plural=True), "débiles"),
    ],
)  # fmt: skip
def test_words_inflect_as_grammars_say(made, expected):
    assert made == expected


def test_a_corpus_that_cannot_be_had_is_never_replaced_by_another(tmp_path):
    books = SOURCES["opus_books"](CorpusSettings(source="opus_books", dataset=str(tmp_path / "absent")), tmp_path)
    with pytest.raises(InputError, match=r"cannot be loaded .*corpus\.dataset=.*--corpus-path"):
        next(iter(books))
    with pytest.raises(InputError, match="--corpus-url"):
        download("http://127.0.0.1:9/nothing.txt", tmp_path)


def test_a_file_is_downloaded_once(tmp_path):
    source = tmp_path / "mine.en.txt"
    source.write_text("hello\n")
    path = download(source.as_uri(), tmp_path / "down")
    source.unlink()
    assert download(source.as_uri(), tmp_path / "down") == path
    assert path.name == "mine.en.txt"


def test_the_documents_of_a_run_are_whole_and_disjoint(finished):
    rows = [json.loads(line) for line in (finished / "corpus/documents.jsonl").read_text().splitlines()]
    assert {tuple(row) for row in rows} == {("text", "lang", "split")}
    assert {row["lang"] for row in rows} == {"en", "es"}
    assert len(rows) == 100
    sides = {side: {row["text"] for row in rows if row["split"] == side} for side in ("train", "val")}
    assert not sides["train"] & sides["val"]
    assert len(sides["val"]) == pytest.approx(10, abs=2)


@pytest.mark.slow  # Importing datasets takes seconds.
def test_books_come_from_a_local_copy_in_documents_of_both_languages(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"translation": {"en": f"sentence {i}", "es": f"frase {i}"}} for i in range(60)]
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = CorpusSettings(source="opus_books", dataset=str(tmp_path / "books"))
    groups = list(SOURCES["opus_books"](settings, tmp_path))
    assert [lang for lang, _ in groups[0]] == ["en", "es"]
    assert groups[0][1][1].splitlines()[23] == "frase 23"
    assert len(groups) == 3
