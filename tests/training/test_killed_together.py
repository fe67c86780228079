"""Two processes are killed at any moment, and no trace of it is left in the result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import REPO

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for a process' children"),
]

CHILD = """
import json, sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
import torch
from support import ChainData, TinyLM, make_experiment, sequence_loss
from flops_fit.data import as_source
from flops_fit.distributed import open_world
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_experiment

class Dropping(TinyLM):
    def forward(self, tokens):
        return torch.nn.functional.dropout(super().forward(tokens), 0.1, self.training)

task = make_task(Dropping, "width", train_data=as_source(ChainData()), eval_data=as_source(ChainData(64, seed=1)),
                 loss_fn=sequence_loss)
Path(sys.argv[1]).mkdir(exist_ok=True, parents=True)
with open_world() as world:
    settings = TrainSettings(precision="fp32", compile="never", checkpoint_seconds=0.1)
    result = train_experiment(task, make_experiment(num_tokens=16 * 8 * 3000), Path(sys.argv[1]), world=world,
                              settings=settings)
    if world.is_main:
        print("RESULT", json.dumps([result.status, result.loss, world.size]))
"""


def start(tmp_path, folder):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=str(REPO / "tests")))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, tmp_path / folder]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def finish(tmp_path, folder):
    with start(tmp_path, folder) as process:
        output, _ = process.communicate(timeout=200)
    status, loss, size = json.loads(next(x for x in output.splitlines() if x.startswith("RESULT "))[7:])
    assert (status, size) == ("completed", 2)
    return loss


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def newest(folder):
    return max((p.name for p in (folder / "checkpoints").glob("step-*")), default="")


def wait_until(claim, seconds):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("victim", ["launcher", "rank"])
def test_two_processes_killed_and_resumed_end_with_the_loss_of_two_left_alone(tmp_path, victim):
    expected = finish(tmp_path, "whole")
    rng = np.random.default_rng(0)
    for _ in range(2):
        with start(tmp_path, "killed") as process:
            before = newest(tmp_path / "killed")
            wait_until(lambda before=before: newest(tmp_path / "killed") != before, 60)
            time.sleep(rng.uniform(0, 0.3))
            ranks = children(process.pid)
            assert len(ranks) == 2
            os.kill(process.pid if victim == "launcher" else ranks[1], signal.SIGKILL)
            # Neither a rank without its launcher nor one without the other goes on.
            wait_until(lambda ranks=ranks: not any(Path(f"/proc/{r}").exists() for r in ranks), 60)
            process.communicate(timeout=60)
    # Bits are promised for one process; here gloo may add in another order.
    assert finish(tmp_path, "killed") == pytest.approx(expected, rel=1e-6)
