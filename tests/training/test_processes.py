"""Runs in processes of their own: killed at random steps, shared by two, refused by a wrong launcher."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support import REPO

CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from support import ChainData, TinyLM, make_experiment, sequence_loss
from flops_fit.data import as_source
from flops_fit.distributed import open_world
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_experiment
import torch

class Dropping(TinyLM):
    def forward(self, tokens):
        return torch.nn.functional.dropout(super().forward(tokens), {dropout}, self.training)

task = make_task(Dropping, "width", train_data=as_source(ChainData()), eval_data=as_source(ChainData(64, seed=1)),
                 loss_fn=sequence_loss)
Path(sys.argv[1]).mkdir(exist_ok=True, parents=True)
with open_world() as world:
    experiment = make_experiment(num_tokens=16 * 8 * {steps} - 16 * 3, ema_decay={ema_decay})
    settings = TrainSettings(precision="fp32", checkpoint_seconds={seconds})
    result = train_experiment(task, experiment, Path(sys.argv[1]), world=world, settings=settings)
    if world.is_main:
        print("LOSS", result.status, repr(result.loss), result.environment["world_size"], result.reason)
"""


def child_code(steps, seconds=60.0, dropout=0.0, ema_decay=None):
    return CHILD.format(tests=str(REPO / "tests"), steps=steps, seconds=seconds, dropout=dropout, ema_decay=ema_decay)


def loss_of(output):
    line = next(x for x in output.splitlines() if x.startswith("LOSS"))
    _, status, loss, world_size, *_ = line.split()
    assert status == "completed", line
    return float(loss), int(world_size)


ENV = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_run_killed_at_random_steps_ends_with_the_same_bits(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(child_code(steps=8000, seconds=0.0, dropout=0.1, ema_decay=0.99))
    whole = subprocess.run([sys.executable, script, tmp_path / "whole"], capture_output=True, text=True, env=ENV)
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(30):
        process = subprocess.Popen([sys.executable, script, tmp_path / "killed"], stdout=subprocess.DEVNULL, env=ENV)
        folder = tmp_path / "killed" / "checkpoints"
        before = newest(folder)
        while process.poll() is None and newest(folder) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    final = subprocess.run([sys.executable, script, tmp_path / "killed"], capture_output=True, text=True, env=ENV)
    assert kills == 30
    assert loss_of(final.stdout) == loss_of(whole.stdout)


def newest(folder):
    return max((p.name for p in folder.glob("step-*")), default="")


@pytest.mark.parametrize(
    ("launcher", "ema_decay"),
    [
        pytest.param(["-m", "torch.distributed.run", "--nproc_per_node", "2"], None, id="torchrun"),
        pytest.param(
            ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
             "--mixed_precision", "no", "--dynamo_backend", "no"],
            0.99, id="accelerate", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_two_processes_give_the_loss_of_one(launcher, ema_decay, tmp_path):
    script = tmp_path / "child.py"
    script.write_text(child_code(steps=200, ema_decay=ema_decay))
    one = subprocess.run([sys.executable, script, tmp_path / "one"], capture_output=True, text=True, env=ENV)
    two = subprocess.run(
        [sys.executable, *launcher, script, tmp_path / "two"], capture_output=True, text=True, env=ENV, timeout=300
    )
    assert two.returncode == 0, two.stderr[-3000:]
    loss_one, _ = loss_of(one.stdout)
    loss_two, world_size = loss_of(two.stdout)
    assert world_size == 2
    assert loss_two == pytest.approx(loss_one, rel=1e-5)


def test_a_world_that_accelerate_does_not_see_is_refused():
    code = "from flops_fit.distributed import open_world\nwith open_world(): print('trained')"
    # WORLD_SIZE alone, without RANK: what an incomplete launcher leaves behind.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENV | {"WORLD_SIZE": "2"}, timeout=120
    )
    assert done.returncode != 0
    assert "WORLD_SIZE=2" in done.stderr
    assert "trained" not in done.stdout


SWEEP_CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from support import ChainData, TinyLM, make_experiment, sequence_loss
from flops_fit.data import as_source
from flops_fit.distributed import open_world
from flops_fit.records import SweepPlan
from flops_fit.store import create_store, open_store
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_sweep

task = make_task(TinyLM, "width", train_data=as_source(ChainData()), eval_data=as_source(ChainData(64, seed=1)),
                 loss_fn=sequence_loss)
runs = tuple(make_experiment(experiment_id="run-%d" % n, num_tokens=n) for n in (6400, 3200, 12800))
plan = SweepPlan(experiments=runs, rejected=(), model_cls_name="TinyLM", size_param="width", compute_budgets=(1e6,))
with open_world() as world:
    for shared in (True, False):
        folder = Path(sys.argv[1]) / str(shared)
        if world.is_main:
            create_store(folder, plan)
        world.agree(None)
        store = open_store(folder)
        train_sweep(task, runs, store, world=world, settings=TrainSettings(precision="fp32", share_trunks=shared))
        world.agree(None)
        if world.is_main:
            found = sorted(store.results(), key=lambda r: r.experiment.num_tokens)
            print("SWEEP", *(v for r in found for v in (r.loss, r.steps_from_trunk)))
"""


@pytest.mark.slow
def test_two_processes_give_a_branch_the_loss_of_the_run_alone(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(SWEEP_CHILD.format(tests=str(REPO / "tests")))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, tmp_path / "sweeps"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    shared, alone = (x.split()[1:] for x in done.stdout.splitlines() if x.startswith("SWEEP"))
    assert [float(v) for v in shared[::2]] == [float(v) for v in alone[::2]]
    # Two of the three runs began on another's steps.
    assert sum(int(v) > 0 for v in shared[1::2]) == 2
    assert not any(int(v) for v in alone[1::2])
