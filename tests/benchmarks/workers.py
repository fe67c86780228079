"""How much sooner does a sweep end with several workers, and are its results the same?

    python tests/benchmarks/workers.py [--workers 1x1 1x2 2x2] [--rounds 3] [sweep=smoke ...]
    python tests/benchmarks/workers.py --workers 1 2 4 sweep.min_size=128 ...      # on a GPU, such as of 1M parameters

Trains the sweep, by default one of 12 runs, with each number of workers (and, after an x, of CPU threads that they
share) in turn, from the first process to the last result; a ratio is of two
turns of one round, and the figure is the median over rounds. On a loaded machine read the share of its cores that the
workers got (user and system time over wall time) before the ratio.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import torch

from flops_fit.api import plan_task, train_into
from flops_fit.config import build_task, load_config, with_workers
from flops_fit.store import create_store

# At three budgets: a minute and a half of one core.
TWELVE_RUNS = [
    "sweep.compute_budgets=[2e10,4e10,8e10]", "sweep.num_sizes_per_budget=4", "sweep.max_size=32",
    "sweep.limits.min_tokens_per_param=0.1",
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", default=TWELVE_RUNS)
    parser.add_argument("--workers", nargs="+", default=["1x1", "1x2", "2x2"], help="the first is the others' measure")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_intermixed_args()
    logging.disable(logging.WARNING)
    config, _ = load_config(args.overrides)
    make_task = partial(build_task, config.task)
    task = make_task()
    plan = plan_task(task, config.sweep, seed=config.seed)
    turns = {count: [] for count in args.workers}
    for _ in range(args.rounds):
        for count, turn in turns.items():
            workers, _, threads = count.partition("x")
            torch.set_num_threads(int(threads or torch.get_num_threads()))
            turn.append(train(plan, task, make_task, with_workers(config.train, workers)))
    first = turns[args.workers[0]]
    for count, turn in turns.items():
        ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(first, turn, strict=True))
        print(json.dumps({
            "workers": count,
            "makespan_ratio": round(ratio, 3),
            "cores_used": round(statistics.median(t["cpu_seconds"] / t["seconds"] for t in turn), 2),
            "losses_equal_to_the_bit": sum(a == b for a, b in zip(first[0]["losses"], turn[0]["losses"], strict=True)),
            "runs": plan.num_experiments,
        }))  # fmt: skip


def train(plan, task, make_task, settings):
    with tempfile.TemporaryDirectory() as folder:
        store = create_store(Path(folder) / "sweep", plan)
        started, cpu = time.perf_counter(), cpu_seconds()
        train_into(store, task, settings, remake_task=make_task)
        seconds = time.perf_counter() - started
        losses = [r.loss for r in store.results()]
    return {"seconds": seconds, "cpu_seconds": cpu_seconds() - cpu, "losses": losses}


def cpu_seconds():
    return sum(u.ru_utime + u.ru_stime for u in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


if __name__ == "__main__":
    main()
