"""Collectives: what a process says when the others do not come."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from support import REPO
from torch import nn

from flops_fit.distributed import World


def test_tensors_of_any_layout_are_copied_from_the_main_process(monkeypatch):
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src: tensor.view(-1).fill_(7))
    world = World(SimpleNamespace(num_processes=2, process_index=1, device="cpu"))
    layouts = [
        torch.zeros(2, 3),
        torch.zeros(2, 3).T,
        torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last),
        nn.Parameter(torch.zeros(3)),
    ]
    expanded = torch.zeros(1).expand(5)
    world.copy_from_main([*layouts, expanded])
    assert all((tensor == 7).all() for tensor in layouts)


CHILD = """
import sys, time
from datetime import timedelta
from pathlib import Path
sys.path[:0] = [{tests!r}]
from support import ChainData, TinyLM, make_experiment, sequence_loss
from flops_fit import distributed
distributed.TIMEOUT = timedelta(seconds=4)
from flops_fit.data import as_source
from flops_fit.distributed import open_world
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_experiment

class Hanging(TinyLM):
    calls = 0

    def forward(self, tokens):
        Hanging.calls += self.training
        if Hanging.calls == 10 and world.rank == 1:
            time.sleep(1000)
        return super().forward(tokens)

with open_world() as world:
    task = make_task(Hanging, "width", train_data=as_source(ChainData()), eval_data=as_source(ChainData(64, seed=1)),
                     loss_fn=sequence_loss)
    Path(sys.argv[1]).mkdir(exist_ok=True)
    train_experiment(task, make_experiment(), Path(sys.argv[1]), world=world,
                     settings=TrainSettings(precision="fp32", compile="never", micro_batch_samples=4))
"""


@pytest.mark.slow
def test_a_process_that_hangs_ends_all_within_the_limit_and_the_others_say_where(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=str(REPO / "tests")))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, tmp_path / "run"],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "RankLost: process 0 of 2 waited 4 s for the others in step 9, longer than the limit of 4 s" in done.stderr
