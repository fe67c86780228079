"""How fast is the engine beside the loops that people use? Each reference is written here, so that it can be read.

    python tests/benchmarks/engine.py [--sizes micro 1M 4M] [--rounds 9] [--repeats 3] [--json FILE]

Contenders stay warm and take turns, a few steps each. A turn costs the CPU time of its own thread (on a GPU: wall
time after a synchronisation), a ratio is of two turns of one round, and the figure is the median over rounds; with
``--repeats`` the whole is started again, and the median of those medians counts. One thread each; memory is kept by
the allocator instead of given back, since which contender pays for page faults is else a matter of turns.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState
from flops_fit.examples.gpt_stdlib import GPT, cross_entropy
from references import DEVICE, NEVER, SIZES, VOCAB, Subject, accelerate_example, ceiling, plain, trainer

from flops_fit.distributed import open_world
from flops_fit.records import Experiment, Recipe
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings
from flops_fit.training.engine.probe import choose_engine
from flops_fit.training.loop import train_model

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "100000000",
}  # fmt: skip
WALL = "ENGINE_BENCHMARK_WALL" in os.environ


def engine(subject, tick, *, precision, reference=False):
    """This library's loop on the same model, or on its reference GPT."""

    class Ticking:
        """Hands over the turn where the loop asks for the next step's samples, in however many micro-batches."""

        tokens_per_sample, num_samples, fingerprint = subject.size.seq_len, 512, subject.name
        probing, seen = True, 0

        def batch(self, ids):
            if not self.probing:
                if self.seen and self.seen % subject.size.batch == 0:
                    tick()
                self.seen += len(ids)
            index = torch.from_numpy(ids)
            return subject.data[0][index], subject.data[1][index]

    size = subject.size
    shape = {"n_layer": size.n_layer, "n_head": size.n_head, "vocab_size": VOCAB, "seq_len": size.seq_len}
    model = GPT if reference else subject.model_cls
    task = make_task(
        model, "d_model", shape if reference else {"size": size}, train_data=Ticking(), eval_data=Ticking(),
        loss_fn=cross_entropy if reference else subject.loss,
    )  # fmt: skip
    tokens = size.batch * size.seq_len
    num_params = sum(p.numel() for p in subject.model().parameters())
    experiment = Experiment(
        experiment_id=subject.name, compute_budget=1.0, size_param_value=size.d_model, num_params=num_params,
        num_params_non_embedding=num_params, num_tokens=tokens * NEVER, flops_per_token=1.0,
        measured_flops_per_token=1.0, tokens_per_sample=size.seq_len,
        recipe=Recipe(batch_tokens=tokens, learning_rate=1e-3, warmup_tokens=100 * tokens),
    )  # fmt: skip
    settings = TrainSettings(precision=precision, compile="never", log_every=1000, checkpoint_seconds=1e9)
    with open_world() as world, tempfile.TemporaryDirectory() as folder:
        choice = choose_engine(task, experiment, world, settings, Path(folder) / "engine.json")
        task.train_data.probing = False
        train_model(task, experiment, Path(folder), world=world, settings=settings, choice=choice)


CONTENDERS = {
    "plain fp32": lambda s, t: plain(s, t, bf16=False),
    "plain bf16": lambda s, t: plain(s, t, bf16=True),
    "accelerate fp32": lambda s, t: accelerate_example(s, t, bf16=False),
    "plain bf16 compiled": lambda s, t: plain(s, t, bf16=True, compiled=True),
    "products bf16": lambda s, t: ceiling(s, t, dtype=torch.bfloat16),
    "trainer bf16": lambda s, t: trainer(s, t, bf16=True),
    "engine fp32": lambda s, t: engine(s, t, precision="fp32"),
    "engine bf16": lambda s, t: engine(s, t, precision="bf16"),
    "engine auto": lambda s, t: engine(s, t, precision="auto"),
    "reference auto": lambda s, t: engine(s, t, precision="auto", reference=True),
}
MICRO = ("plain fp32", "accelerate fp32", "engine fp32", "engine auto")
# A over B, and the throughput ratio that is asked for, by size.
GOALS = (
    ("engine fp32", "plain fp32", {"1M": 0.95, "4M": 0.95}),
    ("engine bf16", "plain bf16", {"1M": 0.95, "4M": 0.95}),
    ("engine fp32", "accelerate fp32", {"micro": 1 / 0.65}),
    ("engine auto", "plain fp32", {"0.1M": 0.95, "1M": 1.4, "4M": 1.8}),
    ("engine auto", "plain bf16", {"0.1M": 0.95}),
    ("engine auto", "trainer bf16", {"1M": 1.2, "4M": 1.2}),
    ("reference auto", "plain fp32", {"1M": 2.0, "4M": 2.4, "15M": 2.8}),
    ("reference auto", "trainer bf16", {"1M": 1.5, "4M": 1.5}),
    ("reference auto", "products bf16", {}),
    ("reference auto", "plain bf16 compiled", {"10M": 1.5, "124M": 1.0}),
)


class Turns(threading.Thread):
    """Runs a contender a few steps at a time and times each turn."""

    def __init__(self, name, subject):
        super().__init__(daemon=True, name=name)
        self.subject, self.left, self.begun, self.cost, self.error = subject, 0, 0.0, [], None
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)

    def run(self):
        try:
            self.go.acquire()
            # Each contender sets Accelerate up in its own way; earlier ones keep the state they hold.
            AcceleratorState._shared_state = {}
            self.begun = self.now()
            CONTENDERS[self.name](self.subject, self.tick)
        except BaseException as error:
            self.error = error
        self.done.release()

    def tick(self):
        self.left -= 1
        if self.left <= 0:
            self.cost.append(self.now() - self.begun)
            self.done.release()
            self.go.acquire()
            self.begun = self.now()

    @staticmethod
    def now():
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() if WALL or DEVICE.type == "cuda" else time.thread_time()

    def turn(self, steps):
        self.left = steps
        self.go.release()
        self.done.acquire()
        if self.error is not None:
            raise self.error


def measure(name, rounds, wanted):
    """Returns milliseconds a step by contender, one value per round."""
    subject = Subject(name)
    known = MICRO if name == "micro" else [n for n in CONTENDERS if DEVICE.type == "cuda" or "compiled" not in n]
    names = [n for n in known if not wanted or n in wanted]
    threads = [Turns(n, subject) for n in names]
    for thread in threads:
        thread.start()
        thread.turn(3)  # allocations, caches and the probe of precisions
        thread.turn(subject.size.steps)
    for _ in range(rounds):
        for thread in threads:
            thread.turn(subject.size.steps)
    return {t.name: [1e3 * c / subject.size.steps for c in t.cost[2:]] for t in threads}


def ratios(costs, name):
    """Returns how many times faster A is than B: the median over rounds."""
    pairs = [(a, b, goals.get(name)) for a, b, goals in GOALS if a in costs and b in costs]
    return {f"{a} / {b}": (statistics.median(y / x for x, y in zip(costs[a], costs[b], strict=True)), goal)
            for a, b, goal in pairs}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["micro", "0.1M", "1M", "4M"])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--workers", type=int, help="instead: what so many processes on one device bring together")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ENVIRONMENT)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if arguments.workers:
        work_side_by_side(arguments)
    elif arguments.repeats > 1:
        repeat(arguments)
    else:
        runs = {}
        for name in arguments.sizes:
            costs = measure(name, arguments.rounds, arguments.contenders)
            runs[name] = {"ms": {k: statistics.median(v) for k, v in costs.items()}, "ratios": ratios(costs, name)}
            print(name, *(f"{k} {v:.3g} ms" for k, v in runs[name]["ms"].items()), sep="  ", flush=True)
            for pair, (value, goal) in runs[name]["ratios"].items():
                print(f"    {pair}: {value:.2f}" + (f" (goal {goal:.2f})" if goal else ""), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(runs))


def repeat(arguments):
    """Runs this script anew several times, since whole runs differ by 10 to 25 %, and takes medians."""
    found = []
    for _ in range(arguments.repeats):
        found += run_again(arguments, 1)
    for name in arguments.sizes:
        print(name)
        for pair, (_, goal) in found[0][name]["ratios"].items():
            values = [f[name]["ratios"][pair][0] for f in found]
            said = "" if goal is None else f", goal {goal:.2f}: {'met' if np.median(values) >= goal else 'MISSED'}"
            print(f"    {pair}: {np.median(values):.2f} ({', '.join(f'{v:.2f}' for v in values)}){said}")


def work_side_by_side(arguments):
    """Says how many times the steps of one process several make, by wall time, while all are at work."""
    os.environ["ENGINE_BENCHMARK_WALL"] = "1"
    (alone,), together = run_again(arguments, 1), run_again(arguments, arguments.workers)
    for name in arguments.sizes:
        for contender, ms in alone[name]["ms"].items():
            rate = sum(1 / one[name]["ms"][contender] for one in together)
            print(f"{name} {contender}: {arguments.workers} workers make {rate * ms:.2f} times the steps of one")


def run_again(arguments, count):
    """Starts this script anew, ``count`` times at once; returns what each measured."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--rounds", str(arguments.rounds), "--sizes", *arguments.sizes]
        options += ["--contenders", *arguments.contenders] if arguments.contenders else []
        files = [Path(folder) / f"{i}.json" for i in range(count)]
        started = [
            subprocess.Popen([sys.executable, __file__, *options, "--json", f], stdout=subprocess.DEVNULL)
            for f in files
        ]
        if any(process.wait() for process in started):
            raise SystemExit("a run of the benchmark failed")
        return [json.loads(f.read_text()) for f in files]


if __name__ == "__main__":
    main()
