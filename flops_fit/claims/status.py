"""State of each run, told from the files alone."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flops_fit.claims.attempt import Beat, Claim, beat_path, claim_path, read_beat, read_claim
from flops_fit.claims.heartbeat import Lease
from flops_fit.claims.worker import Worker, is_gone, this_worker
from flops_fit.records import Experiment, RunResult
from flops_fit.store import Listing, Store

State = Literal["completed", "diverged", "failed", "running", "stale", "pending"]


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What is known of a run."""

    experiment: Experiment
    state: State
    """stale: its worker is gone, or its heartbeat is older than the lease; another worker will take it over."""
    attempts: int
    outcome: RunResult | None = None
    """Where it has ended."""
    claim: Claim | None = None
    """Of the newest attempt, where it runs or is stale."""
    beat: Beat | None = None
    beat_age_seconds: float | None = None
    """By the clocks of this machine and of the file system, for people: workers go by changes of the heartbeat."""
    last_end: RunResult | None = None
    """Of the newest attempt that ended without a result, where the run waits for the next one."""

    @property
    def steps_per_second(self) -> float | None:
        """Rate of the attempt up to its last heartbeat."""
        if self.beat is None or self.beat.seconds <= 0 or self.beat.steps <= self.beat.first_step:
            return None
        return (self.beat.steps - self.beat.first_step) / self.beat.seconds


def run_states(store: Store) -> tuple[RunState, ...]:
    """Returns the state of each run of the plan, in its order; writes nothing.

    Raises:
        InputError: If a result cannot be read.
    """
    listing, me = store.listing(), this_worker()
    return tuple(_state(store, run, listing, me) for run in store.plan.experiments)


def _state(store: Store, run: Experiment, listing: Listing, me: Worker) -> RunState:
    name = run.experiment_id
    newest = listing.newest(name)
    outcome = store.outcome(name, listing)
    if outcome is not None:
        return RunState(experiment=run, state=outcome.status, attempts=newest, outcome=outcome)  # type: ignore[arg-type]
    if newest == 0 or listing.has_ended(name, newest):
        last = store.ends(name, listing).get(newest)
        return RunState(experiment=run, state="pending", attempts=newest, last_end=last)
    claim, beat = read_claim(store.root, name, newest), read_beat(store.root, name, newest)
    age = _age(beat_path(store.root, name, newest))
    age = _age(claim_path(store.root, name, newest)) if age is None else age
    lease = Lease().seconds if claim is None else claim.lease_seconds
    is_stale = age is None or age > lease or (claim is not None and is_gone(claim.worker, me))
    return RunState(
        experiment=run, state="stale" if is_stale else "running", attempts=newest, claim=claim, beat=beat,
        beat_age_seconds=age,
    )  # fmt: skip


def _age(path: Path) -> float | None:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None
