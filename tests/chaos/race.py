"""Claim race: processes that all publish the same claims at once, of which one must win each."""

import json
import multiprocessing
import os
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from broken import break_mechanism
from fake_training import make_plan
from storm import fork

from flops_fit.claims import Attempt, this_worker
from flops_fit.claims.attempt import publish_claim, read_claim
from flops_fit.store import Store, create_store


def race(*, folder: Path, processes: int, runs: int, rounds: int, broken: str | None = None) -> dict[str, Any]:
    """Returns how many claims there were, and how many had one winner, whose claim is the one in the folder."""
    began = time.monotonic()
    store = create_store(folder / "race", make_plan(runs, 1))
    barrier = multiprocessing.get_context("fork").Barrier(processes)
    wins = [folder / f"wins-{i}.json" for i in range(processes)]
    pids = [fork(_claim_all, store, rounds, barrier, path, broken) for path in wins]
    failures = sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
    winners: dict[str, list[str]] = {}
    for path in wins:
        for claim, worker_id in json.loads(path.read_text()):
            winners.setdefault(claim, []).append(worker_id)
    names = [(run.experiment_id, n) for run in store.plan.experiments for n in range(1, rounds + 1)]
    won = sum(len(ids) == 1 and _holder(store, claim) == ids[0] for claim, ids in winners.items())
    seconds = time.monotonic() - began
    return {
        "claims": len(names), "won_by_one": won, "failures": failures, "tries": processes * len(names),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def _holder(store: Store, claim: str) -> str | None:
    name, _, number = claim.rpartition(".")
    found = read_claim(store.root, name, int(number))
    return None if found is None else found.worker.worker_id


def _claim_all(store: Store, rounds: int, barrier: Barrier, path: Path, broken: str | None) -> None:
    break_mechanism(broken)
    me, won = this_worker(), []
    for number in range(1, rounds + 1):
        barrier.wait(60)
        for run in store.plan.experiments:
            claim = publish_claim(store, run, number, me)
            if claim is not None:
                attempt = Attempt(store=store, experiment=run, number=number, claim=claim)
                won.append((f"{attempt.experiment.experiment_id}.{number}", me.worker_id))
    path.write_text(json.dumps(won))
