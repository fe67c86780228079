"""Two ranks of real training, killed again and again: are the results those of ranks that were left alone, to the bit?

    python tests/chaos/ranks.py [--kills 200] [--seed 0] [--out build/chaos_ranks.json]

Each turn starts torchrun with two processes on a sweep of two runs (dropout, several micro-batches a step), waits for a
new checkpoint, and kills one rank, the other, the launcher, or all three with -9, or asks them to stop with SIGTERM.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
CHILD = """
import sys
from pathlib import Path
import torch
from support import ChainData, TinyLM, make_experiment, sequence_loss
from flops_fit.data import as_source
from flops_fit.distributed import open_world
from flops_fit.errors import Preempted
from flops_fit.records import SweepPlan
from flops_fit.stopping import signals_request_stop, signals_end_command
from flops_fit.store import create_store
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_sweep

class Dropping(TinyLM):
    def forward(self, tokens):
        return torch.nn.functional.dropout(super().forward(tokens), 0.1, self.training)

task = make_task(Dropping, "width", train_data=as_source(ChainData()), eval_data=as_source(ChainData(64, seed=1)),
                 loss_fn=sequence_loss)
runs = [make_experiment(experiment_id=f"run-{w}", size_param_value=w, num_tokens=128 * STEPS) for w in (8, 12)]
plan = SweepPlan(experiments=tuple(runs), rejected=(), model_cls_name="Dropping", size_param="width",
                 compute_budgets=(1e6,))
settings = TrainSettings(precision="fp32", compile="never", micro_batch_samples=2, checkpoint_seconds=0.2,
                         log_every=10, lease_seconds=5.0, stall_seconds=60.0)
try:
    with signals_end_command(), open_world() as world, signals_request_stop():
        store = create_store(Path(sys.argv[1]), plan)
        train_sweep(task, store.plan.experiments, store, world=world, settings=settings)
except Preempted:
    sys.exit(75)
"""
VICTIMS = ("rank 0", "rank 1", "launcher", "all", "SIGTERM")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/chaos_ranks.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = storm(Path(folder), args.kills, np.random.default_rng(args.seed))
    figures = {"seed": args.seed, **figures}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))
    sys.exit(figures["values_that_differ"] > 0 or figures["orphans"] > 0)


def storm(folder, kills, rng):
    """Kills ranks so often, over as many sweeps as that takes; returns the figures."""
    # Long enough for several kills in a sweep.
    script = folder / "child.py"
    script.write_text(CHILD.replace("STEPS", "1500"))
    whole = folder / "whole"
    finish(script, whole)
    expected = facts(whole)
    done, sweeps, differing, compared, orphans = Counter(), 0, 0, 0, 0
    while sum(done.values()) < kills:
        killed = folder / f"killed-{sweeps}"
        while sum(done.values()) < kills:
            victim = VICTIMS[rng.integers(len(VICTIMS))]
            hit, left = turn(script, killed, victim, rng.uniform(0, 0.5))
            orphans += left
            if not hit:
                break
            done[victim] += 1
        finish(script, killed)
        found = facts(killed)
        compared += len(expected)
        differing += sum(found.get(key) != value for key, value in expected.items())
        sweeps += 1
    return {
        "kills": sum(done.values()), "by_victim": dict(done), "sweeps": sweeps, "values_compared": compared,
        "values_that_differ": differing, "orphans": orphans,
    }  # fmt: skip


def turn(script, folder, victim, delay):
    """Kills ranks once they make progress; returns whether there were any, and how many outlived it."""
    with start(script, folder) as process:
        before = progress(folder)
        while process.poll() is None and progress(folder) == before:
            time.sleep(0.02)
        time.sleep(delay)
        ranks = children(process.pid)
        if process.poll() is not None or len(ranks) < 2:
            process.wait()
            return False, 0
        if victim == "SIGTERM":
            process.terminate()
        else:
            targets = {"rank 0": ranks[:1], "rank 1": ranks[1:], "launcher": [process.pid]}
            for pid in targets.get(victim, [process.pid, *ranks]):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=120)
    deadline = time.monotonic() + 60
    while any(map(is_running, ranks)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return True, sum(map(is_running, ranks))


def start(script, folder):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, folder]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def finish(script, folder):
    for _ in range(3):
        with start(script, folder) as process:
            if process.wait(timeout=600) == 0:
                return
    raise RuntimeError(f"{folder} does not finish")


def facts(folder):
    """All that is not the clock's or the machine's, of results and metrics."""
    found = {}
    for path in (folder / "results").glob("*.json"):
        result = json.loads(path.read_text())
        for name in ("status", "loss", "loss_std_error", "train_loss", "tokens_seen", "steps"):
            found[path.stem, name] = result[name]
    for path in (folder / "runs").glob("*/metrics.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            if line["step"] % 10 == 0:
                found[path.parent.name, line["step"]] = line["loss"], line["gradient_norm"], line["learning_rate"]
    return found


def progress(folder):
    return {p for pattern in ("results/*.json", "runs/*/checkpoints/step-*") for p in folder.glob(pattern)}


def children(pid):
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    main()
