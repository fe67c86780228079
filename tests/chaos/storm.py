"""Storms: workers on one folder that are killed, stopped and continued at random, and what came of it."""

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_training import make_plan
from fake_worker import WorkerSettings, work
from history import MUST_BE_ZERO, judge, open_at_death, read_facts

from flops_fit.store import create_store


@dataclass(frozen=True, kw_only=True)
class Storm:
    """What is done to the workers."""

    kills: int = 0
    stops: int = 0
    """By SIGSTOP, for longer than the lease or shorter, then continued."""
    workers: int = 4
    runs: int = 40
    steps: int = 12
    """Of the short runs; the long ones have twice as many."""
    lease_seconds: float = 0.3
    step_seconds: float = 0.002
    pause_seconds: float = 0.03
    """Mean time between two faults."""
    wrong_clocks: bool = False
    broken: str | None = None


@dataclass
class _Crew:
    """Running workers."""

    start: Callable[[int], int]
    pids: dict[int, int] = field(default_factory=dict)
    """Place by process."""
    stopped: dict[int, float] = field(default_factory=dict)
    """When a stopped process is to go on."""
    deaths: dict[int, float] = field(default_factory=dict)
    failures: int = 0
    started: int = 0

    def fill(self, place: int) -> None:
        self.pids[self.start(self.started)] = place
        self.started += 1

    def reap(self) -> None:
        """Notes who has ended by itself."""
        while self.pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self.deaths.setdefault(pid, time.monotonic())
            self.pids.pop(pid)
            self.stopped.pop(pid, None)
            self.failures += os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0

    def kill(self, pid: int) -> None:
        self.deaths[pid] = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.stopped.pop(pid, None)
        self.fill(self.pids.pop(pid))

    def wake(self, *, all_of_them: bool = False) -> None:
        for pid, until in list(self.stopped.items()):
            if all_of_them or time.monotonic() > until:
                os.kill(pid, signal.SIGCONT)
                del self.stopped[pid]


def run_storms(storm: Storm, *, seed: int, folder: Path) -> dict[str, Any]:
    """Runs sweep after sweep until all faults have been made; returns the sums of their figures."""
    rng, total = random.Random(seed), Counter[str]()
    began = time.monotonic()
    while total["sweeps"] == 0 or total["kills"] < storm.kills or total["stops"] < storm.stops:
        root = folder / f"storm-{total['sweeps']}"
        figures = _one_sweep(storm, rng, root, storm.kills - total["kills"], storm.stops - total["stops"])
        total.update(figures)
        total["sweeps"] += 1
        if any(figures.get(name) for name in MUST_BE_ZERO):
            break
        shutil.rmtree(root)
    steps = total["steps"] / total["steps_needed"]
    return {**total, "steps_over_needed": round(steps, 3), "seconds": round(time.monotonic() - began, 1)}


def _one_sweep(storm: Storm, rng: random.Random, root: Path, kills: int, stops: int) -> dict[str, int]:
    store = create_store(root / "sweep", make_plan(storm.runs, storm.steps))
    (root / "audit").mkdir()
    seeds = random.Random(rng.random())

    def start(number: int) -> int:
        # Every other worker seems to be on a machine of its own: of its death only the lease tells.
        settings = WorkerSettings(
            store=store, audit=root / "audit" / f"{number}.jsonl", machine=f"node-{number}" if number % 2 else None,
            lease_seconds=storm.lease_seconds, step_seconds=storm.step_seconds,
            clock_seed=seeds.randrange(2**32) if storm.wrong_clocks else None, broken=storm.broken,
        )  # fmt: skip
        return fork(work, settings)

    crew = _Crew(start)
    for place in range(storm.workers):
        crew.fill(place)
    made = Counter({"kills": 0, "stops": 0})
    while crew.pids:
        crew.reap()
        crew.wake(all_of_them=made["kills"] >= kills and made["stops"] >= stops)
        left = {"kills": kills - made["kills"], "stops": stops - made["stops"]}
        awake = [pid for pid in crew.pids if pid not in crew.stopped]
        kind = rng.choices(list(left), [max(0, n) for n in left.values()])[0] if max(left.values()) > 0 else None
        if kind == "kills" and crew.pids:
            crew.kill(rng.choice(list(crew.pids)))
        elif kind == "stops" and awake:
            pid = rng.choice(awake)
            os.kill(pid, signal.SIGSTOP)
            crew.stopped[pid] = time.monotonic() + rng.uniform(0.5, 5) * storm.lease_seconds
        made[kind or "waits"] += 1
        time.sleep(rng.expovariate(1 / storm.pause_seconds) if kind else 0.02)
    facts = read_facts(root / "audit")
    figures = judge(store, facts, crew.deaths, storm.lease_seconds)
    return {
        **figures,
        "kills_within_a_run": open_at_death(facts),
        "kills": made["kills"],
        "stops": made["stops"],
        "failures": crew.failures,
    }


def fork(act: Callable[..., object], *arguments: object) -> int:
    """Calls a function in a child process; returns its id. It exits with 1 where the function raises."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid
