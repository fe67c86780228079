"""A model split over processes is the model it was."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from support import REPO

CHILD = """
import json, sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from torch import nn
from support import ChainData, TinyLM, make_experiment, sequence_loss
from flops_fit.data import as_source
from flops_fit.distributed import open_world
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_experiment

options = json.loads(sys.argv[2])

def loss_fn(logits, targets):
    return options.get("steepness", 1) * sequence_loss(logits, targets)

class Layered(nn.Module):
    "Layers in a ModuleList are sharded one by one; 9 is no multiple of two processes."

    def __init__(self, width):
        super().__init__()
        self.embed, self.head = nn.Embedding(16, 9), nn.Linear(9, 16)
        self.layers = nn.ModuleList(nn.Linear(9, 9) for _ in range(3))

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = x + layer(x).tanh()
        return self.head(x)

class Stopping(ChainData):
    left = options.get("stop_at", -1)

    def __getitem__(self, i):
        Stopping.left -= 1
        if Stopping.left == 0:
            raise KeyboardInterrupt
        return super().__getitem__(i)

task = make_task(Layered, "width", train_data=as_source(Stopping()), eval_data=as_source(ChainData(61, seed=1)),
                 loss_fn=loss_fn)
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
with open_world() as world:
    settings = TrainSettings(compile="never", **{{"precision": "fp32", **options.get("settings", {{}})}})
    experiment = make_experiment(num_tokens=16 * 397, ema_decay=options.get("ema_decay"),
                                 optimizer=options.get("optimizer", "adamw"))
    result = train_experiment(task, experiment, folder, world=world, settings=settings)
    if world.is_main:
        print("LOSS", world.is_sharded, repr(result.loss), result.reason)
"""


@pytest.fixture
def train(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=str(REPO / "tests")))

    def run(folder, *, sharded=False, processes=2, config=None, **options):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), script]
        if config is not None:
            command[2:] = ["accelerate.commands.launch", "--config_file", config, "--num_processes", "2", script]
        done = subprocess.run(
            [*command, tmp_path / folder, json.dumps(options)], capture_output=True, text=True, timeout=120,
            env=os.environ | {"OMP_NUM_THREADS": "1"}
            | ({"ACCELERATE_USE_FSDP": str(sharded).lower()} if config is None else {}),
        )  # fmt: skip
        if "stop_at" in options:
            assert done.returncode != 0
            return None
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("LOSS")]
        assert lines, done.stderr[-3000:]
        assert lines[0][1] == str(sharded)
        return float(lines[0][2])

    return run


@pytest.mark.slow
def test_a_sharded_model_has_the_loss_of_a_copied_one(train):
    whole = train("whole")
    # Sums in another order.
    assert train("sharded", sharded=True) == pytest.approx(whole, rel=1e-5)
    # A launch as a user makes it, by the file.
    file = REPO / "launch" / "accelerate" / "fsdp.yaml"
    in_parts = train("in parts", sharded=True, config=file, settings={"micro_batch_samples": 2})
    assert in_parts == pytest.approx(whole, rel=1e-5)


@pytest.mark.slow
def test_the_average_of_a_sharded_model_is_that_of_a_copied_one(train):
    copied = train("copied", ema_decay=0.95)
    assert train("sharded", sharded=True, ema_decay=0.95) == pytest.approx(copied, rel=1e-5)


@pytest.mark.slow
def test_muon_of_a_sharded_model_is_that_of_a_whole_one(train):
    whole = train("whole", processes=1, optimizer="muon")
    # A copied model sums gradients in another order; of a sharded one the bfloat16 products of Muon are split too.
    assert train("copied", optimizer="muon") == pytest.approx(whole, rel=1e-3)
    assert train("sharded", sharded=True, optimizer="muon") == pytest.approx(whole, rel=5e-3)


@pytest.mark.slow
def test_fp16_on_two_processes_leaves_out_as_few_steps_as_on_one(train):
    # So steep that the first steps overflow until the scale of the loss is low enough.
    options = {"settings": {"precision": "fp16"}, "steepness": 1000}
    one = train("one", processes=1, **options)
    # Gradients of half a batch overflow one step later, which is 0.6 %; seven steps more are 18 %.
    assert train("two", **options) == pytest.approx(one, rel=0.02)
    assert train("sharded", sharded=True, **options) == pytest.approx(one, rel=0.02)


@pytest.mark.slow
def test_a_sharded_run_goes_on_from_its_checkpoint(train, tmp_path):
    whole = train("whole", sharded=True, ema_decay=0.95)
    train("stopped", sharded=True, stop_at=150, settings={"checkpoint_seconds": 0.0}, ema_decay=0.95)
    assert list((tmp_path / "stopped" / "checkpoints").glob("step-*"))
    assert train("stopped", sharded=True, ema_decay=0.95) == pytest.approx(whole, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ema_decay", [None, 0.95])
def test_weights_of_a_sharded_model_are_kept_whole_and_change_nothing(train, tmp_path, ema_decay):
    plain = train("plain", sharded=True, ema_decay=ema_decay)
    assert train("keeping", sharded=True, ema_decay=ema_decay, settings={"keep_weights": "both"}) == plain
    # Copied models, interrupted and gone on with.
    unkept = train("unkept", ema_decay=ema_decay)
    keeping = {"keep_weights": "both"}
    train("copied", ema_decay=ema_decay, stop_at=150, settings={**keeping, "checkpoint_seconds": 0.0})
    copied = train("copied", ema_decay=ema_decay, settings=keeping)
    assert copied == unkept
    for kind in ("final", "best"):
        sharded, whole = (load_file(tmp_path / f / f"{kind}_model.safetensors") for f in ("keeping", "copied"))
        assert sharded.keys() == whole.keys()
        for name, value in whole.items():
            # Sums in another order, over some fifty steps.
            torch.testing.assert_close(sharded[name], value, rtol=1e-3, atol=1e-4)
    assert plain == pytest.approx(copied, rel=1e-5)
