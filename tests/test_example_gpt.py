"""The built-in task: real text, split by file, counted without warnings."""

import logging

import numpy as np
import pytest
from flops_fit.examples.gpt_stdlib.task import build_task, read_texts, split_by_file

from flops_fit.tasks import probe_sizes


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(200):
        (tmp_path / f"{i:03d}.txt").write_bytes(bytes(rng.integers(97, 123, 300, dtype=np.uint8)))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "left_out.txt").write_text("x" * 1000)
    return tmp_path


def test_no_file_is_on_both_sides_and_none_is_lost(folder):
    texts = read_texts(folder, "**/*.txt")
    train, held_out = split_by_file(texts, 0.2)
    assert len(texts) == 200
    assert sorted(train + held_out) == sorted(texts)
    # 40 of 200 by the hash of the content, with a binomial standard deviation of 5.7.
    assert 20 < len(held_out) < 60


def test_the_tokens_are_the_bytes_shifted_by_one(folder):
    task = build_task(text_dir=str(folder), pattern="**/*.txt", cache_dir=str(folder / "cache"), held_out_fraction=0.2)
    inputs, targets = task.train_data.batch(np.array([0, 1]))
    first, _ = split_by_file(read_texts(folder, "**/*.txt"), 0.2)
    stream = b"".join(t + b"\0" for t in first)
    assert bytes(inputs.flatten().tolist()) == stream[:128]
    assert bytes(targets.flatten().tolist()) == stream[1:129]


def test_it_is_packed_once(folder):
    options = {"text_dir": str(folder), "pattern": "**/*.txt", "cache_dir": str(folder / "cache")}
    first = build_task(**options)
    before = {p: p.stat().st_mtime_ns for p in (folder / "cache").iterdir()}
    assert build_task(**options).fingerprint == first.fingerprint
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "cache").iterdir()}


def test_the_standard_library_is_found_and_its_flops_are_counted_without_data(caplog):
    task = build_task()
    assert task.train_data.num_samples * 64 > 5e6
    with caplog.at_level(logging.INFO):
        probes, rejected = probe_sizes(task, [8, 16], measure=True)
    assert not caplog.records
    assert not rejected
    # Forward and backward: 6 per weight used in a product, and 12 T d per layer of attention, counted dense.
    for p, d in zip(probes, (8, 16), strict=True):
        assert p.flops_per_token == pytest.approx(6 * (24 * d * d + 256 * d) + 12 * 2 * 64 * d, rel=1e-3)
