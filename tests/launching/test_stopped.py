"""`flops-fit train --launcher torchrun` and `accelerate` told to stop: checkpoint, exit code, and the same results."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import REPO

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for a process' children"),
]

SWEEP = [
    "task.factory=paced:paced_chain", "task.options={}", "sweep=smoke", "sweep.compute_budgets=[1e9]",
    "sweep.num_sizes_per_budget=2", "sweep.max_size=64", "sweep.limits.max_epochs=100", "train.precision=fp32",
    "train.micro_batch_samples=16", "train.checkpoint_seconds=0.2",
]  # fmt: skip
ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO / "tests")}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A sweep that two ranks trained without an interruption."""
    folder = tmp_path_factory.mktemp("launched") / "sweep"
    # Two runs are too few for a fit, which is what the command says at its end; here its plan is wanted.
    subprocess.run([sys.executable, "-m", "flops_fit", "run", *SWEEP, f"out={folder}"], env=ENV)
    for name in ("results", "claims", "ends", "runs", "trunks"):
        shutil.rmtree(folder / name, ignore_errors=True)
    planned = folder.with_name("planned")
    shutil.copytree(folder, planned)
    assert start(folder, "torchrun").wait(120) == 0
    return planned, losses_of(folder)


@pytest.mark.parametrize(
    ("launcher", "number", "code"),
    [
        ("torchrun", signal.SIGTERM, 75),
        ("torchrun", signal.SIGINT, 130),
        ("torchrun", signal.SIGKILL, -signal.SIGKILL),
        ("accelerate", signal.SIGUSR1, 75),
    ],
)
def test_a_launched_sweep_that_is_stopped_leaves_nothing_behind_and_goes_on(
    tmp_path, reference, launcher, number, code
):
    planned, losses = reference
    sweep = tmp_path / "sweep"
    shutil.copytree(planned, sweep)
    (tmp_path / "pace").write_text("0.002")
    process = start(sweep, launcher, PACE_FILE=str(tmp_path / "pace"))
    wait_for(lambda: any(sweep.glob("runs/*/checkpoints/step-*/manifest.json")))
    started = descendants(process.pid)
    assert len(started) >= 3
    process.send_signal(number)
    assert process.wait(60) == code
    wait_for(lambda: not any(is_running(pid) for pid in started))
    assert [json.loads(p.read_text())["status"] for p in (sweep / "ends").glob("*.json")] == ["preempted"]
    assert start(sweep, launcher).wait(120) == 0
    assert losses_of(sweep) == losses


def start(sweep, launcher, **variables):
    argv = [sys.executable, "-m", "flops_fit", "train", sweep, "--launcher", launcher, "--processes", "2"]
    return subprocess.Popen(argv, env=ENV | variables)


def losses_of(folder):
    found = [json.loads(path.read_text()) for path in (folder / "results").glob("*.json")]
    return {r["experiment"]["experiment_id"]: (r["loss"], r["environment"]["world_size"]) for r in found}


def wait_for(claim, seconds=60):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(pid):
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in children for found in (int(child), *descendants(child))]


def is_running(pid):
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
