"""Two processes decide alike: what happens on one happens to both."""

import json
import os
import subprocess
import sys

import pytest
from support import REPO

CHILD = """
import json, sys
from datetime import timedelta
from pathlib import Path
sys.path[:0] = [{tests!r}]
import torch
from accelerate import PartialState
from support import ChainData, TinyLM, make_experiment, sequence_loss
from flops_fit import distributed
from flops_fit.data import as_source
from flops_fit.distributed import open_world
from flops_fit.records import SweepPlan
from flops_fit.store import create_store, open_store
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_sweep

root, trouble = Path(sys.argv[1]), sys.argv[2]
distributed.PATIENCE = timedelta(seconds=3)

def is_second():
    return PartialState().process_index == 1

class RaisesBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if Troubled.calls == 12:
            raise RuntimeError("no luck backward")
        return gradient

class Troubled(TinyLM):
    "One of two processes has trouble in the third forward pass."

    calls = 0

    def __init__(self, width):
        super().__init__(width)
        self.width = width
        self.register_buffer("seen_by", torch.zeros(1))

    def forward(self, tokens):
        if self.training:
            self.seen_by.fill_(PartialState().process_index)
        elif self.seen_by != 0:
            raise RuntimeError("evaluated with other buffers than the main process")
        if self.training and trouble == "backward" and self.width == 8:
            Troubled.calls += 1
            return RaisesBackward.apply(super().forward(tokens))
        if self.training and is_second() and self.width == 8:
            Troubled.calls += 1
            if trouble == "raises" and Troubled.calls == 12:
                raise RuntimeError("no luck today")
            if trouble == "memory" and len(tokens) > 2:
                raise torch.OutOfMemoryError("pretend")
            if trouble == "nan" and Troubled.calls > 12:
                return super().forward(tokens) * float("nan")
        return super().forward(tokens)

class Disk(ChainData):
    taken = 0

    def __getitem__(self, i):
        Disk.taken += 1
        if trouble == "disk" and is_second() and Disk.taken == 40:
            raise OSError("the disk is gone")
        return super().__getitem__(i)

with open_world() as world:
    task = make_task(Troubled, "width", train_data=as_source(Disk()), eval_data=as_source(ChainData(64, seed=1)),
                     loss_fn=sequence_loss)
    runs = (make_experiment(experiment_id="first"), make_experiment(experiment_id="second", size_param_value=16))
    plan = SweepPlan(experiments=runs, rejected=(), model_cls_name="TinyLM", size_param="width", compute_budgets=(1e6,))
    if world.is_main:
        create_store(root, plan)
    world.agree(None)
    store = open_store(root)
    train_sweep(task, runs, store, world=world, settings=TrainSettings(precision="fp32", compile="never"))
    if world.is_main:
        for r in store.results():
            print("RESULT", json.dumps([r.status, r.loss, r.reason, r.environment["micro_batch"]]))
"""


def run_together(tmp_path, trouble, *, sharded=False):
    done = start_together(tmp_path, trouble, sharded)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]


def start_together(tmp_path, trouble, sharded):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=str(REPO / "tests")))
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, tmp_path / "out", trouble],
        capture_output=True, text=True, timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_FSDP": str(sharded).lower()},
    )  # fmt: skip


@pytest.mark.slow
def test_a_model_that_raises_on_one_process_fails_on_both_and_the_sweep_goes_on(tmp_path):
    (status, loss, reason, _), second = run_together(tmp_path, "raises")
    assert (status, loss) == ("failed", None)
    assert "process 1 raised" in reason
    assert "no luck today" in reason
    assert second[0] == "completed"


@pytest.mark.slow
def test_memory_that_runs_out_on_one_process_halves_the_micro_batch_on_both(tmp_path):
    (status, loss, _, micro_batch), _ = run_together(tmp_path, "memory")
    assert (status, micro_batch) == ("completed", 2)
    (tmp_path / "calm").mkdir()
    (_, expected, _, _), _ = run_together(tmp_path / "calm", "none")
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_loss_that_is_no_number_on_one_process_ends_the_run_on_both(tmp_path):
    (status, loss, reason, _), second = run_together(tmp_path, "nan")
    assert (status, loss) == ("diverged", None)
    assert "at step" in reason
    assert second[0] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_data_that_fail_on_one_process_fail_on_both_and_the_sweep_goes_on(tmp_path, sharded):
    (status, loss, reason, _), second = run_together(tmp_path, "disk", sharded=sharded)
    assert (status, loss) == ("failed", None)
    assert "the disk is gone" in reason
    assert second[0] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_a_backward_pass_that_raises_on_both_processes_is_a_failed_run(tmp_path, sharded):
    (status, loss, reason, _), second = run_together(tmp_path, "backward", sharded=sharded)
    assert (status, loss) == ("failed", None)
    assert "no luck backward" in reason
    assert second[0] == "completed"


@pytest.mark.slow
def test_one_process_that_raises_while_the_other_waits_for_it_ends_both_and_says_why(tmp_path):
    done = start_together(tmp_path, "raises", sharded=True)
    assert done.returncode != 0
    assert "no luck today" in done.stderr
    assert "process 1 of 2 raised the error above" in done.stderr
