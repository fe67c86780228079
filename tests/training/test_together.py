"""Two processes decide alike: what happens on one happens to both."""

import json
import os
import subprocess
import sys

import pytest
from support import REPO

CHILD = """
import json, sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = [{tests!r}]
import torch
from accelerate import PartialState
from support import ChainData, TinyLM, make_experiment, sequence_loss
from flops_fit.data import as_source
from flops_fit.launching import open_world
from flops_fit.records import SweepPlan
from flops_fit.store import create_store, open_store
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_sweep

root, trouble = Path(sys.argv[1]), sys.argv[2]

class Troubled(TinyLM):
    "One of two processes has trouble in the third forward pass."

    calls = 0

    def forward(self, tokens):
        if self.training and PartialState().process_index == 1 and self.embed.weight.shape[1] == 8:
            Troubled.calls += 1
            if trouble == "raises" and Troubled.calls == 12:
                raise RuntimeError("no luck today")
            if trouble == "memory" and len(tokens) > 2:
                raise torch.OutOfMemoryError("pretend")
            if trouble == "nan" and Troubled.calls > 12:
                return super().forward(tokens) * float("nan")
        return super().forward(tokens)

with open_world() as world:
    task = make_task(Troubled, "width", train_data=as_source(ChainData()), eval_data=as_source(ChainData(64, seed=1)),
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


def run_together(tmp_path, trouble):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=str(REPO / "tests")))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, tmp_path / "out", trouble],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]


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
