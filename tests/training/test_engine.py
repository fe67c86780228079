"""What a run spends, what it returns, and that nothing but the recipe changes it."""

import json
import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import ChainData, Interrupted, TinyLM, make_experiment, sequence_loss
from torch import nn

from flops_fit.data import as_source
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, loop, train_experiment
from flops_fit.training import step as step_module
from flops_fit.training.engine.probe import EngineChoice
from flops_fit.training.order import sample_ids


@pytest.fixture
def train(tiny_task, world, tmp_path):
    def run(experiment=None, task=tiny_task, folder="run", **settings):
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        return train_experiment(
            task, experiment or make_experiment(), path, world=world, settings=TrainSettings(**settings)
        )

    return run


class Counting(ChainData):
    """Counts which samples were taken."""

    def __init__(self):
        super().__init__()
        self.taken = []

    def __getitem__(self, i):
        self.taken.append(i)
        return super().__getitem__(i)


def test_exactly_the_planned_tokens_are_seen_the_last_step_partial(train, tiny_task):
    data = Counting()
    task = make_task(TinyLM, "width", train_data=as_source(data), eval_data=tiny_task.eval_data, loss_fn=sequence_loss)
    # 150 samples in steps of 8: 18 full steps and one of 6, after the few that probes looked at.
    result = train(task=task)
    assert data.taken[-150:] == list(sample_ids(0, 0, 150, 512))
    assert result.tokens_seen == 150 * 16
    assert result.steps == 19
    assert result.flops_spent == 150 * 16 * 1200.0


def test_the_model_learns(train):
    result = train(make_experiment(num_tokens=16 * 2000))
    # The entropy of the chain: nine times in ten one symbol, else another.
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert entropy < result.loss < 1.0
    assert result.loss == pytest.approx(result.train_loss, abs=0.2)


def test_the_same_run_twice_is_equal_to_the_bit(train):
    assert train(folder="a").loss == train(folder="b").loss


def test_another_seed_is_another_run(train):
    assert train(folder="a").loss != train(make_experiment(seed=1), folder="b").loss


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 7])
def test_micro_batches_do_not_change_the_loss(train, micro_batch):
    # 199 full steps and one of 5 samples.
    experiment = make_experiment(num_tokens=16 * 1597)
    whole = train(experiment, folder="whole", precision="fp32")
    split = train(experiment, folder="split", precision="fp32", micro_batch_samples=micro_batch)
    # float32 sums in another order.
    assert split.loss == pytest.approx(whole.loss, rel=1e-5)


def test_targets_weigh_the_same_however_they_are_split(train, tiny_task):
    """Samples with many ignored targets: a mean of micro-batch means would be another gradient."""

    class Ragged(ChainData):
        def __getitem__(self, i):
            inputs, targets = super().__getitem__(i)
            targets = targets.clone()
            targets[: i % 13] = -100
            return inputs, targets

    task = make_task(
        TinyLM, "width", train_data=as_source(Ragged()), eval_data=tiny_task.eval_data, loss_fn=sequence_loss
    )
    whole = train(task=task, folder="whole")
    split = train(task=task, folder="split", micro_batch_samples=2)
    assert split.loss == pytest.approx(whole.loss, rel=1e-5)


def test_a_step_without_any_target_fails_the_run_and_says_which(train, tiny_task):
    class Empty(ChainData):
        def __getitem__(self, i):
            inputs, targets = super().__getitem__(i)
            return inputs, targets if i in first_steps else torch.full_like(targets, -100)

    first_steps = set(sample_ids(0, 0, 24, 512).tolist())
    result = train(task=replace(tiny_task, train_data=as_source(Empty())))
    assert (result.status, result.steps) == ("failed", 3)
    assert "step 3: got no target that counts" in result.reason


@pytest.mark.parametrize("is_random", [True, False])
def test_a_data_set_that_draws_at_random_is_not_read_in_a_second_thread(tiny_task, monkeypatch, is_random):
    class Thread(ChainData):
        names = []

        def __getitem__(self, i):
            self.names.append(threading.current_thread().name)
            torch.rand(1) if is_random else None
            return super().__getitem__(i)

    task = replace(tiny_task, train_data=as_source(Thread()))
    monkeypatch.setattr(loop, "pinned", lambda batches: batches)
    Thread.names.clear()
    gpu = SimpleNamespace(device=torch.device("cuda"), rank=0, size=1)
    run = SimpleNamespace(step=0, bare=TinyLM(8))
    steps = list(loop._batches(task, make_experiment(), run, gpu, EngineChoice()))
    assert len(steps) == 19
    assert (set(Thread.names[8:]) == {threading.current_thread().name}) == is_random


@pytest.mark.parametrize(
    ("step", "first_step", "stance"),
    [
        (0, 0, "default"), (1, 0, "eager_on_recompile"), (7, 7, "default"), (8, 7, "eager_on_recompile"),
        (18, 0, "force_eager"), (18, 18, "force_eager"),
    ],
)  # fmt: skip
def test_a_run_is_compiled_in_the_first_step_of_each_process(monkeypatch, step, first_step, stance):
    monkeypatch.setattr(torch.compiler, "set_stance", lambda name: name)
    run = SimpleNamespace(step=step, first_step=first_step, full_steps=18)
    assert step_module._stance(run, EngineChoice(compiled=True)) == stance


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_compiled_run_that_is_resumed_is_equal_to_the_bit(train, tiny_task):
    settings = {"precision": "fp32", "compile": "always", "checkpoint_seconds": 0.0, "micro_batch_samples": 3}
    whole = train(folder="whole", **settings)
    # Two full steps and the shorter last one are left, or the last one alone.
    for samples in (16 * 8, 18 * 8 + 1):
        with pytest.raises(KeyboardInterrupt):
            train(task=replace(tiny_task, train_data=as_source(Interrupted(samples))), folder=str(samples), **settings)
        assert train(folder=str(samples), **settings).loss == whole.loss


def test_it_is_adamw_as_torch_does_it(train, tiny_task, tmp_path):
    """A plain loop with torch's own pieces gives the same weights."""
    result = train(make_experiment(schedule="constant", warmup_tokens=0, num_tokens=16 * 40, max_grad_norm=None))
    torch.manual_seed(0)
    model = TinyLM(8)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.95),
    )
    ids = sample_ids(0, 0, 40, 512)
    for step in range(5):
        inputs, targets = tiny_task.train_data.batch(ids[8 * step : 8 * step + 8])
        sequence_loss(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    inputs, targets = tiny_task.eval_data.batch(np.arange(64))
    expected = sequence_loss(model(inputs), targets).item()
    assert result.loss == pytest.approx(expected, rel=1e-5)


def test_a_diverging_run_ends_with_the_step_and_without_a_loss(train):
    result = train(make_experiment(learning_rate=1e4, num_tokens=16 * 2000, max_grad_norm=None))
    assert result.status == "diverged"
    assert result.loss is None
    assert "at step" in result.reason


def test_a_non_finite_loss_ends_a_run_as_diverged(train, tiny_task):
    def broken(logits, targets):
        return sequence_loss(logits, targets) * float("inf")

    task = replace(tiny_task, loss_fn=broken)
    result = train(task=task, log_every=4)
    assert result.status == "diverged"
    assert "step 0" in result.reason
    # It is found before the first update, and that step was paid for.
    assert (result.steps, result.tokens_seen, result.flops_spent) == (1, 128, 128 * 1200.0)


def test_weights_that_the_last_step_spoils_are_no_result(train, tiny_task):
    class Spoiled(torch.autograd.Function):
        """The loss is fine, its gradient is not."""

        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float("nan")

    result = train(task=replace(tiny_task, loss_fn=lambda *pair: Spoiled.apply(sequence_loss(*pair))), log_every=1)
    assert (result.status, result.loss) == ("diverged", None)
    assert "gradient norm was nan at step 0" in result.reason


def test_a_model_that_raises_ends_a_run_as_failed_with_the_traceback(train, tiny_task):
    class Broken(TinyLM):
        def forward(self, tokens):
            raise RuntimeError("no luck today")

    result = train(task=replace(tiny_task, model_cls=Broken))
    assert result.status == "failed"
    assert result.reason.rstrip().endswith("RuntimeError: no luck today")
    assert "Traceback" in result.reason


class FailingAt(ChainData):
    """Raises once so many samples have been taken."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def __getitem__(self, i):
        self.left -= 1
        if self.left < 0:
            raise OSError("the disk is gone")
        return super().__getitem__(i)


def test_a_failed_run_says_what_it_spent_until_then(train, tiny_task):
    # The data of 5 whole steps of 8 samples and of half a step, and the sample whose targets are counted; no probe.
    settings = {"precision": "fp32", "compile": "never", "micro_batch_samples": 8}
    result = train(task=replace(tiny_task, train_data=as_source(FailingAt(45))), **settings)
    assert (result.status, result.loss, result.steps) == ("failed", None, 5)
    assert result.tokens_seen == 5 * 128
    assert result.flops_spent == 5 * 128 * 1200.0
    assert result.epochs == 40 / 512
    assert "the disk is gone" in result.reason


def test_a_run_that_fails_in_its_evaluation_has_spent_all(train, tiny_task):
    result = train(task=replace(tiny_task, eval_data=as_source(FailingAt(10))))
    assert (result.status, result.steps, result.tokens_seen) == ("failed", 19, 150 * 16)


def test_out_of_memory_halves_the_micro_batch_and_gives_the_same_loss(train, tiny_task):
    class Hungry(TinyLM):
        def forward(self, tokens):
            if self.training and len(tokens) > 2:
                raise torch.OutOfMemoryError("pretend")
            return super().forward(tokens)

    assert train(task=replace(tiny_task, model_cls=Hungry), folder="hungry").loss == pytest.approx(
        train(folder="fed").loss, rel=1e-5
    )


def test_out_of_memory_with_one_sample_is_a_failed_run(train, tiny_task):
    class Starving(TinyLM):
        def forward(self, tokens):
            raise torch.OutOfMemoryError("pretend")

    assert train(task=replace(tiny_task, model_cls=Starving)).status == "failed"


def test_a_stream_that_ends_too_early_is_a_failed_run_not_a_shorter_one(train, tiny_task):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            data = ChainData(100)
            return (data[i] for i in range(len(data)))

    result = train(task=replace(tiny_task, train_data=as_source(Stream())))
    assert result.status == "failed"
    assert "ended after 100 samples" in result.reason


def test_evaluation_leaves_dropout_out(train, tiny_task):
    class Dropping(TinyLM):
        def forward(self, tokens):
            return super().forward(tokens) + nn.functional.dropout(torch.ones(16), 0.5, self.training)

    one = train(task=replace(tiny_task, model_cls=Dropping), folder="a")
    two = train(task=replace(tiny_task, model_cls=Dropping), folder="b")
    assert one.loss == two.loss


def test_bf16_is_close_to_fp32(train):
    fp32 = train(folder="a", precision="fp32")
    bf16 = train(folder="b", precision="bf16")
    assert bf16.environment["precision"] == "bf16"
    # bf16 keeps 8 bits; losses of a short run agree to about a percent.
    assert bf16.loss == pytest.approx(fp32.loss, rel=0.02)


def test_epochs_are_counted(train):
    assert train(make_experiment(num_tokens=16 * 1024)).epochs == 2.0


def test_metrics_are_strict_json_lines(train, tmp_path):
    train(log_every=5)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 19]
    assert lines[-1]["tokens"] == 150 * 16


def test_the_threads_of_the_process_are_left_as_they_were(train):
    before = torch.get_num_threads()
    train()
    assert torch.get_num_threads() == before


def test_a_damaged_checkpoint_is_passed_over(train, tmp_path):
    whole = train(folder="whole")
    train(folder="run", checkpoint_seconds=0.0)
    checkpoints = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert len(checkpoints) == 2
    (checkpoints[-1] / "tensors.safetensors").write_bytes(b"torn")
    assert train(folder="run").loss == whole.loss


def test_the_causal_flops_of_the_probe_are_those_that_the_run_spent(tiny_task, world, tmp_path):
    experiment = make_experiment(measured_flops_per_token_causal=1000.0)
    result = train_experiment(tiny_task, experiment, tmp_path, world=world, settings=TrainSettings(compile="never"))
    assert (result.flops_spent, result.flops_spent_causal) == (1200.0 * result.tokens_seen, 1000.0 * result.tokens_seen)
