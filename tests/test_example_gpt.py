"""The built-in task: text split by file or block, FLOPs counted without warnings, kernels that agree with formulas."""

import logging
import math

import numpy as np
import pytest
import torch
from flops_fit.examples.gpt_stdlib import GPT, cross_entropy
from flops_fit.examples.gpt_stdlib.bf16_on_cpu import CausalAttention
from flops_fit.examples.gpt_stdlib.task import build_task
from flops_fit.examples.gpt_stdlib.text import read_user_text, split_by_file, split_text
from torch.nn import functional as F

from flops_fit.errors import ConfigError
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
    texts = read_user_text(folder, "**/*.txt")
    train, held_out = split_by_file(texts, 0.2)
    assert len(texts) == 200
    assert sorted(train + held_out) == sorted(texts)
    # 40 of 200 by the hash of the content, with a binomial standard deviation of 5.7.
    assert 20 < len(held_out) < 60


def test_the_tokens_are_the_bytes_shifted_by_one(folder):
    task = build_task(text_dir=str(folder), pattern="**/*.txt", cache_dir=str(folder / "cache"), held_out_fraction=0.2)
    inputs, targets = task.train_data.batch(np.array([0, 1]))
    first, _ = split_by_file(read_user_text(folder, "**/*.txt"), 0.2)
    stream = b"".join(t + b"\0" for t in first)
    assert bytes(inputs.flatten().tolist()) == stream[:128]
    assert bytes(targets.flatten().tolist()) == stream[1:129]


def test_it_is_packed_once(folder):
    options = {"text_dir": str(folder), "pattern": "**/*.txt", "cache_dir": str(folder / "cache")}
    first = build_task(**options)
    before = {p: p.stat().st_mtime_ns for p in (folder / "cache").iterdir()}
    assert build_task(**options).fingerprint == first.fingerprint
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "cache").iterdir()}


def write_text(seed, size):
    """Words drawn at random: no window of 64 bytes occurs twice by chance."""
    rng = np.random.default_rng(seed)
    words = ["".join(map(chr, rng.integers(97, 123, n))) for n in rng.integers(2, 9, 2000)]
    return " ".join(words[i] for i in rng.integers(0, 2000, size // 5))[:size]


def windows(data):
    inputs, targets = data.batch(np.arange(data.num_samples))
    return np.concatenate([inputs, targets[:, -1:]], axis=1).astype(np.uint8)


@pytest.mark.parametrize(("files", "size"), [(1, 200_000), (17, 12_000), (99, 2_000)])
@pytest.mark.parametrize("seq_len", [64, 512])
def test_few_files_are_split_into_blocks_and_no_held_out_window_is_trained_on(tmp_path, files, size, seq_len):
    for i in range(files):
        (tmp_path / f"{i:02d}.txt").write_text(write_text(i, size))
    path = tmp_path / "00.txt" if files == 1 else tmp_path
    task = build_task(text_dir=str(path), pattern="*.txt", cache_dir=str(tmp_path / "cache"), seq_len=seq_len)
    total = files * size
    held_out = task.eval_data.num_samples * seq_len
    # At least the share asked for, less a window; at most a block more.
    assert 0.06 * total - seq_len <= held_out <= 0.06 * total + max(4096, 16 * seq_len) + files
    assert task.train_data.num_samples * seq_len >= total - held_out - 2 * seq_len
    # Any 32 bytes of the held-out text that stand anywhere in the training text would show an overlap.
    stream = windows(task.train_data).tobytes()
    found = [w.tobytes()[k : k + 32] in stream for w in windows(task.eval_data) for k in (0, 16, 32)]
    assert not any(found)


def test_the_split_of_few_files_follows_from_their_content_alone(tmp_path):
    texts = [write_text(i, 12_000).encode() for i in range(17)]
    first = split_text(texts, 0.06, seq_len=64, where="here")
    again = split_text(texts[::-1], 0.06, seq_len=64, where="there")
    assert [sorted(side) for side in first] == [sorted(side) for side in again]
    assert sum(map(len, first[0] + first[1])) == sum(map(len, texts))


def test_a_changed_text_has_another_fingerprint(tmp_path):
    path = tmp_path / "a.txt"
    options = {"text_dir": str(path), "cache_dir": str(tmp_path / "cache")}
    text = write_text(0, 200_000)
    path.write_text(text)
    first = build_task(**options).fingerprint
    path.write_text(text[:100_000] + "!" + text[100_001:])
    assert build_task(**options).fingerprint != first


def test_a_file_that_outweighs_all_others_is_split_by_blocks_too(caplog):
    texts = [write_text(0, 500_000).encode(), *(write_text(i, 100).encode() for i in range(1, 150))]
    with caplog.at_level(logging.INFO):
        _, held_out = split_text(texts, 0.06, seq_len=64, where="here")
    assert 0.06 <= sum(map(len, held_out)) / sum(map(len, texts)) < 0.07
    assert "150 files split into 272 blocks of 4096 bytes" in caplog.text


@pytest.mark.parametrize(
    ("content", "pattern", "words"),
    [
        (None, "*.txt", "does not exist"),
        ({}, "*.txt", "no files that match .*empty"),
        ({"a.md": b"x", "b.md": b"y"}, "**/*.py", r"no files that match .*2 of \*\.md.*pattern=\*\*/\*\.md"),
        ({"a.txt": b" \n"}, "*.txt", "has no text"),
        ({"a.txt": b"ab\xff"}, "*.txt", r"a\.txt is not UTF-8 text \(byte 2\)"),
        ({"a.txt": b"ab" * 500}, "*.txt", "has 1,000 bytes of text, expected at least 68,267"),
        ({"a.txt": b"x" * 200_000}, "*.txt", "repeats itself: only 2 blocks"),
        ({"a.txt": b"x"}, "/x", "task.options.pattern: got '/x'"),
    ],
)
def test_text_that_cannot_be_used_is_refused_in_one_line(tmp_path, content, pattern, words):
    folder = tmp_path / "text"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(ConfigError, match=words) as caught:
        build_task(text_dir=str(folder), pattern=pattern, cache_dir=str(tmp_path / "cache"))
    assert "\n" not in str(caught.value)


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


def relative_error(ours, exact):
    return ((ours - exact).norm() / exact.norm()).item()


# One block and one group; blocks and groups that do not come out even; one sample a group, of several blocks.
@pytest.mark.parametrize(("B", "T"), [(3, 24), (11, 200), (2, 512)])
def test_attention_in_blocks_has_values_and_gradients_of_the_plain_formula(B, T):
    H, K, rng = 4, 16, torch.Generator().manual_seed(0)
    qkv = torch.randn(B, T, 3 * H * K, generator=rng).bfloat16().requires_grad_()
    grad = torch.randn(B, T, H * K, generator=rng).bfloat16()
    y = CausalAttention.apply(qkv, H)
    (ours,) = torch.autograd.grad(y, qkv, grad)

    exact = qkv.detach().double().requires_grad_()
    q, k, v = (part.view(B, T, H, K).transpose(1, 2) for part in exact.chunk(3, -1))
    scores = (q @ k.mT / math.sqrt(K)).masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
    expected = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, H * K)
    (theirs,) = torch.autograd.grad(expected, exact, grad.double())
    # bf16 rounds by up to 0.4 %; scores, weights and sums over four blocks are each rounded.
    assert relative_error(y, expected) < 0.01
    assert relative_error(ours, theirs) < 0.01


def test_the_loss_kernel_is_exact_for_large_logits():
    rng = torch.Generator().manual_seed(0)
    # Some targets have a probability below the least float32.
    logits = (100 * torch.randn(40, 10, 50, generator=rng)).bfloat16().requires_grad_()
    targets = torch.randint(50, (40, 10), generator=rng)
    loss = cross_entropy(logits, targets)
    (grad,) = torch.autograd.grad(loss, logits)
    exact = logits.detach().double().requires_grad_()
    expected = F.cross_entropy(exact.flatten(0, 1), targets.flatten())
    (theirs,) = torch.autograd.grad(expected, exact)
    assert expected > 200
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    # Stored in bf16: half a unit in the last of 8 bits.
    assert relative_error(grad, theirs) < 2**-8


def test_a_third_of_a_step_has_a_third_of_its_gradient():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 10, 50, generator=rng).bfloat16().requires_grad_()
    targets = torch.randint(50, (40, 10), generator=rng)
    (whole,), (third,) = (torch.autograd.grad(cross_entropy(logits, targets) * f, logits) for f in (1.0, 1 / 3))
    # Each value is rounded by up to 0.4 %, to either side; a factor in bf16 would be 0.2 % too large for all.
    assert (third.double() / whole.double()).mean() == pytest.approx(1 / 3, rel=5e-4)


@pytest.mark.slow
def test_under_bf16_autocast_training_follows_fp32():
    losses = {}
    for bf16 in (False, True):
        torch.manual_seed(0)
        model = GPT(d_model=64, n_layer=2, n_head=2, vocab_size=64, seq_len=160)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
        tokens = torch.randint(8, (12, 161), generator=torch.Generator().manual_seed(1))
        for _ in range(30):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[bf16] = loss.item()
    # It falls from log(64) to near log(8), the entropy of the data; another seed differs by some 0.01.
    assert losses[False] < 2.2
    assert losses[True] == pytest.approx(losses[False], abs=5e-3)
