import json
import math
import subprocess
import sys

import numpy as np
import pytest

from flops_fit.pipeline.settings import Limits
from flops_fit.pipeline.text_checks import (
    continuation_words,
    distinct_2,
    is_in_language,
    lexicons,
    longest_run,
    share_known,
)
from flops_fit.pipeline.validate import describe_missed, judge, make_prompts, unigram_nats

GOOD = {
    "unigram_ratio": 0.5, "gap_nats": 0.1, "distinct_2": 0.9, "lexicon": 0.8, "language": 0.9, "p95_ms": 2.0,
    "rss_mb": 260.0, "peak_rss_mb": 262.0,
}  # fmt: skip


def judged(limits=None, too_small=False, longest_run=2, **changes):
    facts = {"measured": GOOD | changes, "longest_run": longest_run}
    return judge(facts, limits or Limits(), too_small=too_small)


@pytest.mark.parametrize(
    ("name", "bad", "limit"),
    [
        ("unigram_ratio", 0.61, 0.6), ("gap_nats", 0.51, 0.5), ("distinct_2", 0.49, 0.5), ("lexicon", 0.69, 0.7),
        ("language", 0.79, 0.8), ("p95_ms", 251.0, 250.0), ("rss_mb", 401.0, 400.0), ("peak_rss_mb", 513.0, 512.0),
    ],
)  # fmt: skip
def test_each_limit_is_judged_on_its_own_side(name, bad, limit):
    assert all(check.passed for check in judged())
    assert all(check.passed for check in judged(**{name: limit}))
    checks = judged(**{name: bad})
    assert [check.name for check in checks if not check.passed] == [name]
    message = describe_missed(checks)
    assert f"{name}: {bad:.4g}, limit" in message
    assert f"{limit:g}: MISSED; try" in message
    assert message.count("passed") == len(checks) - 1


def test_a_token_five_times_in_a_row_misses():
    assert [c.name for c in judged(longest_run=5) if not c.passed] == ["longest_run"]
    assert longest_run([1, 2, 2, 2, 2, 2, 3]) == 5


def test_a_corpus_too_small_for_a_sweep_is_judged_only_by_limits_given_by_hand():
    checks = {c.name: c for c in judged(too_small=True, lexicon=0.1)}
    assert checks["lexicon"].passed is None
    assert checks["p95_ms"].passed is True
    checks = {c.name: c for c in judged(Limits(lexicon=0.5), too_small=True, lexicon=0.1)}
    assert checks["lexicon"].passed is False
    assert checks["unigram_ratio"].passed is None


def test_text_without_named_languages_has_no_language_to_judge():
    checks = {c.name: c for c in judged(language=None)}
    assert checks["language"].passed is None
    assert "names no languages" in checks["language"].note


def test_the_unigram_model_is_the_entropy_of_the_training_counts():
    counts, tokens = np.array([3.0, 1.0, 0.0]), np.array([0, 0, 1, 2])
    # One more than was seen of each: 4/7, 2/7, 1/7.
    expected = -(2 * math.log(4 / 7) + math.log(2 / 7) + math.log(1 / 7))
    assert unigram_nats(counts, tokens) == pytest.approx(expected)


def test_words_of_a_sample_are_those_that_the_model_wrote_and_finished():
    assert continuation_words("The old house is ve", "The old hou") == ["house", "is"]
    assert distinct_2([["a", "b", "a", "b"]]) == pytest.approx(2 / 3)
    assert share_known([["casa", "xyz"]], frozenset({"casa"})) == 0.5


def test_the_language_of_a_sample_is_that_of_most_of_its_words():
    known = lexicons({"en": ["The house is here"], "es": ["La casa está aquí, no?"]})
    assert is_in_language(["the", "house", "casa"], "en", known)
    assert not is_in_language(["la", "casa", "the"], "en", known)
    assert not is_in_language(["xyz"], "en", known)
    # A word that both languages' texts hold is of the one that uses it more.
    known = lexicons({"en": ["the file of the house"], "es": ["el fichero the de la casa de la calle"]})
    assert is_in_language(["the", "file"], "en", known)
    assert is_in_language(["de", "la", "the"], "es", known)


def test_there_are_at_least_eight_prompts_also_of_few_documents():
    assert len(make_prompts(["one two three four " * 20])) >= 8
    assert make_prompts([f"a b c{i} d" for i in range(30)])[1] == "a b c1"


def test_what_was_measured_stands_in_the_metrics(metrics):
    found = metrics["validation"]
    assert set(found["per_language"]) == {"en", "es"}
    for lang in ("en", "es"):
        assert len([s for s in found["samples"] if s["lang"] == lang]) >= 8
    assert found["torch_import_rss_mb"] < found["rss_mb"] <= found["peak_rss_mb"]
    assert found["p95_ms_per_token"] > 0
    assert found["checks"][0]["passed"] is None  # Too small a corpus: not judged, and not called met.


def test_the_measuring_process_reads_the_model_folder_alone_and_imports_no_trainer(finished, tmp_path):
    alone = tmp_path / "model"
    alone.mkdir()
    for name in ("config.json", "tokenizer.json", "final_model.safetensors"):
        (alone / name).write_bytes((finished / "model" / name).read_bytes())
    request = {
        "prompts": [{"lang": "en", "prompt": "Ana saw"}], "sample_tokens": 10, "temperature": 0.8, "seed": 0,
        "texts": {"en": ["Ana saw the house."]}, "windows": {"val": [[1, 2, 3]]},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "flops_fit.pipeline.measure", str(alone)],
        input=json.dumps(request), capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["modules"] == []
    assert measured["timed_tokens"] >= 100
    assert measured["losses"]["en"]["bytes"] == 18
    assert measured["num_params"] == json.loads((alone / "config.json").read_text())["num_params"]
