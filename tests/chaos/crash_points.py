"""Every crash point of a small sweep: a fault at each file call in turn, then a clean run of the same command."""

import json
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fake_training import make_plan, true_loss
from fake_worker import WorkerSettings, work
from file_faults import KILLS, LOST_REPLY, FileFaults, faults_of
from storm import fork

from flops_fit.errors import StoreError
from flops_fit.store import create_store, open_store

RUNS, STEPS = 2, 3
TYPED, UNTYPED = 74, 1


def try_all(*, seed: int, folder: Path, per_call: int | None = None, broken: str | None = None) -> dict[str, Any]:
    """Tries faults at every file call.

    Args:
        seed: Of the choice of faults.
        folder: For sweeps.
        per_call: How many faults to try at each call, chosen at random; None for all.
        broken: See `broken.MECHANISMS`.

    Returns:
        Figures: calls by name, points tried, and what went wrong at which of them.
    """
    began, rng = time.monotonic(), random.Random(seed)
    calls = _calls_of_a_clean_run(folder)
    failures, tried = [], Counter[str]()
    for at, name in enumerate(calls):
        kills, errors = faults_of(name)
        faults = kills + errors
        for fault in faults if per_call is None else rng.sample(faults, min(per_call, len(faults))):
            problem = _try(folder / "sweep", at, fault, broken)
            tried["kills" if fault in KILLS else "errors"] += 1
            if problem is not None:
                failures.append({"at": at, "call": name, "fault": fault, "problem": problem})
    return {
        "calls": dict(Counter(calls)), "points": sum(tried.values()), **tried, "failed_points": len(failures),
        "failures": failures[:10], "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _calls_of_a_clean_run(folder: Path) -> list[str]:
    _sweep(folder / "clean", None, "", None, folder / "calls.json")
    return list(json.loads((folder / "calls.json").read_text()))


def _try(root: Path, at: int, fault: str, broken: str | None) -> str | None:
    """Returns what is wrong after a fault and a clean run; None if nothing is."""
    shutil.rmtree(root, ignore_errors=True)
    status = _sweep(root, at, fault, broken)
    if fault not in KILLS and not (os.WIFEXITED(status) and os.WEXITSTATUS(status) in (0, TYPED)):
        return f"it ended in {status:#x}, expected a StoreError or success"
    if fault == LOST_REPLY and status != 0:
        return "a lost reply was not recognised"
    _plan_and_work(root, broken)
    results = open_store(root).results()
    if [r.loss for r in results] != [true_loss(run) for run in make_plan(RUNS, STEPS).experiments]:
        return f"the results are {[(r.status, r.loss) for r in results]}"
    return None


def _sweep(root: Path, at: int | None, fault: str, broken: str | None, calls: Path | None = None) -> int:
    """Plans and trains a sweep in a process of its own; returns how that ended."""
    return os.waitpid(fork(_sweep_with_faults, root, at, fault, broken, calls), 0)[1]


def _sweep_with_faults(root: Path, at: int | None, fault: str, broken: str | None, calls: Path | None) -> None:
    faults = FileFaults(root, at, fault)
    faults.install()
    try:
        _plan_and_work(root, broken)
    except StoreError:
        os._exit(TYPED)
    except OSError:
        # What is only read ends the command in 74 too, see cli/failures.py.
        os._exit(TYPED if faults.calls[at or 0] == "read" else UNTYPED)
    if calls is not None:
        calls.write_text(json.dumps(faults.calls))


def _plan_and_work(root: Path, broken: str | None) -> None:
    store = create_store(root, make_plan(RUNS, STEPS), config="out: here\n")
    work(WorkerSettings(store=store, checkpoint_steps=2, broken=broken))
    store.write_view("results.csv", store.results_csv())
