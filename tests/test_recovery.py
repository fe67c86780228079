"""Interrupted at any point and run again, a sweep ends with the same results."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

SWEEP = [
    "sweep.compute_budgets=[5e8,1e9,2e9]", "sweep.num_sizes_per_budget=4", "sweep.max_size=32",
    "sweep.limits.min_tokens_per_param=0.1", "train.checkpoint_seconds=0.05", "train.eval_samples=256",
    # At the sweep's own rates tiny models amplify rounding; at this one two sums of equal terms stay equal.
    "sweep.recipe.max_learning_rate=0.003",
]  # fmt: skip
STOPS = 5
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def command(folder):
    return [sys.executable, "-m", "flops_fit", "run", *SWEEP, f"out={folder}"]


def losses(folder):
    results = [json.loads(p.read_text()) for p in sorted((folder / "results").iterdir()) if p.suffix == ".json"]
    return {r["experiment"]["experiment_id"]: (r["loss"], r["tokens_seen"]) for r in results}


def progress(folder):
    """What a stop could undo: checkpoints and results."""
    return {p for pattern in ("results/*.json", "runs/*/checkpoints/step-*") for p in folder.glob(pattern)}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_sweep_stopped_again_and_again_ends_as_one_that_was_not(tmp_path, how):
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True, env=ENV)
    rng = np.random.default_rng(0)
    for _ in range(STOPS):
        before = progress(tmp_path / "stopped")
        process = subprocess.Popen(
            command(tmp_path / "stopped"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV
        )
        # Something new must be there first, or a slow start would never be got over.
        while process.poll() is None and progress(tmp_path / "stopped") == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        assert process.poll() is None, "it ended before it could be stopped"
        process.send_signal(how)
        process.wait()
    subprocess.run(command(tmp_path / "stopped"), check=True, capture_output=True, env=ENV)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_finish_what_one_began(tmp_path):
    """`torchrun -m flops_fit train DIR` gives the losses of one process."""
    subprocess.run(command(tmp_path / "one"), check=True, capture_output=True, env=ENV)
    subprocess.run(command(tmp_path / "two"), check=True, capture_output=True, env=ENV)
    for path in (tmp_path / "two" / "results").iterdir():
        path.unlink()
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "flops_fit", "train"]
    done = subprocess.run([*launch, tmp_path / "two"], capture_output=True, text=True, env=ENV, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys()
    for key, (loss, tokens) in one.items():
        assert two[key] == (pytest.approx(loss, rel=1e-4), tokens)
