"""A model split over processes is the model it was."""

import os
import subprocess
import sys

import pytest
from support import REPO

CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from torch import nn
from support import ChainData, TinyLM, make_experiment, sequence_loss
from flops_fit.data import as_source
from flops_fit.launching import open_world
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_experiment

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
    left = int(sys.argv[2])

    def __getitem__(self, i):
        Stopping.left -= 1
        if Stopping.left == 0:
            raise KeyboardInterrupt
        return super().__getitem__(i)

task = make_task(Layered, "width", train_data=as_source(Stopping()), eval_data=as_source(ChainData(61, seed=1)),
                 loss_fn=sequence_loss)
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
with open_world() as world:
    settings = TrainSettings(precision="fp32", compile="never", checkpoint_seconds=float(sys.argv[3]),
                             micro_batch_samples=int(sys.argv[4]) or None)
    experiment = make_experiment(num_tokens=16 * 397, ema_decay=float(sys.argv[5]) or None)
    result = train_experiment(task, experiment, folder, world=world, settings=settings)
    if world.is_main:
        print("LOSS", world.is_sharded, result.loss, result.reason)
"""


@pytest.fixture
def train_on_two(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=str(REPO / "tests")))

    def run(folder, *, sharded, stop_at=-1, checkpoint_seconds=60.0, micro_batch=0, ema_decay=0):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, tmp_path / folder]
        done = subprocess.run(
            [*command, str(stop_at), str(checkpoint_seconds), str(micro_batch), str(ema_decay)],
            capture_output=True, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_FSDP": str(sharded).lower()}, timeout=120,
        )  # fmt: skip
        if stop_at > 0:
            assert done.returncode != 0
            return None
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("LOSS")]
        assert lines, done.stderr[-3000:]
        assert lines[0][1] == str(sharded)
        return float(lines[0][2])

    return run


@pytest.mark.slow
def test_a_sharded_model_has_the_loss_of_a_copied_one(train_on_two):
    whole = train_on_two("whole", sharded=False)
    # Sums in another order.
    assert train_on_two("sharded", sharded=True) == pytest.approx(whole, rel=1e-5)
    assert train_on_two("in parts", sharded=True, micro_batch=2) == pytest.approx(whole, rel=1e-5)


@pytest.mark.slow
def test_the_average_of_a_sharded_model_is_that_of_a_copied_one(train_on_two):
    copied = train_on_two("copied", sharded=False, ema_decay=0.95)
    assert train_on_two("sharded", sharded=True, ema_decay=0.95) == pytest.approx(copied, rel=1e-5)


@pytest.mark.slow
def test_a_sharded_run_goes_on_from_its_checkpoint(train_on_two, tmp_path):
    whole = train_on_two("whole", sharded=True, ema_decay=0.95)
    train_on_two("stopped", sharded=True, stop_at=150, checkpoint_seconds=0.0, ema_decay=0.95)
    assert list((tmp_path / "stopped" / "checkpoints").glob("step-*"))
    assert train_on_two("stopped", sharded=True, ema_decay=0.95) == pytest.approx(whole, rel=1e-6)
