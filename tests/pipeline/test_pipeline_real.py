"""The presets as users run them: three seeds of quick on generated text, and quick on real bilingual text."""

import json
from itertools import pairwise

import numpy as np
import pytest
from manpages import fetch_manpages

pytestmark = pytest.mark.slow


def metrics_of(call, out, *arguments):
    code, _, err = call("pipeline", "run", "pipeline=quick", "--output-dir", out, *arguments)
    assert code == 0, err
    return json.loads((out / "training_metrics.json").read_text(encoding="utf-8"))


def means_of_fifths(metrics):
    losses = [entry["train_loss"] for entry in metrics["training"]["history"]]
    return [np.mean(losses[i : i + 2]) for i in range(0, 10, 2)]


def test_quick_meets_every_limit_and_its_seeds_agree(call, tmp_path):
    found = [metrics_of(call, tmp_path / f"seed{seed}", f"seed={seed}") for seed in range(3)]
    for metrics in found:
        assert all(check["passed"] for check in metrics["validation"]["checks"])
        assert metrics["validation"]["val_bits_per_byte"] < 0.6 * metrics["validation"]["unigram_bits_per_byte"]
        assert metrics["training"]["epochs"] == pytest.approx(1)
        fifths = means_of_fifths(metrics)
        assert all(later <= 1.02 * earlier for earlier, later in pairwise(fifths))
    losses = [metrics["validation"]["val_loss"] for metrics in found]
    assert (max(losses) - min(losses)) / np.mean(losses) < 0.05


def test_the_whole_goes_through_on_real_bilingual_text(call, tmp_path):
    text = fetch_manpages(tmp_path / "manpages")
    paths = [part for path in sorted(text.iterdir()) for part in ("--corpus-path", path)]
    # One pass of a megabyte is too little for real text's vocabulary: two limits are those that four passes meet.
    metrics = metrics_of(
        call, tmp_path / "out", *paths, "pipeline.limits.unigram_ratio=0.95",
        "pipeline.limits.lexicon=0.5", "pipeline.limits.language=0.4",
    )  # fmt: skip
    assert set(metrics["validation"]["per_language"]) == {"en", "es"}
    assert not metrics["corpus"]["is_generated"]
    for found in metrics["validation"]["per_language"].values():
        assert found["val_bits_per_byte"] < found["unigram_bits_per_byte"]
