"""Attempts at a run: claimed, kept alive by heartbeats, ended; each fact is one small file."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flops_fit.claims.worker import Worker, this_machine
from flops_fit.errors import InputError
from flops_fit.files import publish, replace_file
from flops_fit.records import Experiment, RunResult, Status
from flops_fit.store import Store, read_record, record_bytes

# Attempts in a row without a newer checkpoint after which a run is failed: of those whose end was seen, which is the
# run's own fault, and of all, since a machine may be taken away at any time.
MAX_WITNESSED = 3
MAX_WITHOUT_PROGRESS = 10
WITNESSED: tuple[Status, ...] = ("died", "stalled")


class Superseded(Exception):
    """Another worker has taken over this attempt's run, or has published its result."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Who makes an attempt."""

    experiment_id: str
    attempt: int
    """From 1."""
    worker: Worker
    checkpoint_step: int
    """Steps of the newest checkpoint when the attempt began."""
    claimed_at: str
    """UTC, for people; no clock is compared with another."""
    lease_seconds: float = 600.0
    """Of the worker's settings."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """Content of a heartbeat."""

    count: int
    steps: int
    seconds: float
    """Since the attempt began."""
    first_step: int
    """Steps that were done when it began."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt that this process makes."""

    store: Store
    experiment: Experiment
    number: int
    claim: Claim

    def beat(self, beat: Beat) -> None:
        """Replaces the heartbeat."""
        replace_file(beat_path(self.store.root, self.experiment.experiment_id, self.number), record_bytes(beat))

    def is_superseded(self) -> bool:
        """Whether the run has a result, or this attempt has been ended or followed by another."""
        root, name = self.store.root, self.experiment.experiment_id
        others = (
            root / "results" / f"{name}.json",
            root / "ends" / f"{name}.{self.number}.json",
            claim_path(root, name, self.number + 1),
        )
        return any(path.exists() for path in others)

    def publish(self, result: RunResult) -> None:
        """Publishes how the attempt ended: a result where that is final, else an end."""
        self.store.publish_result(result, attempt=self.number)

    def end(self, status: Status, reason: str, *, steps: int, seconds: float) -> RunResult:
        """Publishes an end without a result; see `end_attempt`."""
        return end_attempt(self.store, self.experiment, self.number, status, reason, steps=steps, seconds=seconds)


def claim_path(root: Path, name: str, attempt: int) -> Path:
    """Returns where a claim is published."""
    return root / "claims" / f"{name}.{attempt}.json"


def beat_path(root: Path, name: str, attempt: int) -> Path:
    """Returns where its heartbeat is."""
    return root / "claims" / f"{name}.{attempt}.hb"


def publish_claim(
    store: Store, run: Experiment, attempt: int, worker: Worker, *, lease_seconds: float = 600.0
) -> Claim | None:
    """Publishes an attempt; None where another worker was first."""
    claim = Claim(
        experiment_id=run.experiment_id,
        attempt=attempt,
        worker=worker,
        checkpoint_step=store.checkpoint_step(run.experiment_id),
        claimed_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        lease_seconds=lease_seconds,
    )
    is_mine = publish(claim_path(store.root, run.experiment_id, attempt), record_bytes(claim))
    return claim if is_mine else None


def read_claim(root: Path, name: str, attempt: int) -> Claim | None:
    """Reads a claim; None where it is damaged or gone: its heartbeat then decides alone."""
    try:
        return read_record(Claim, claim_path(root, name, attempt))
    except (InputError, OSError):
        return None


def read_beat(root: Path, name: str, attempt: int) -> Beat | None:
    """Reads a heartbeat; None without one."""
    try:
        return read_record(Beat, beat_path(root, name, attempt))
    except (InputError, OSError):
        return None


def end_attempt(
    store: Store, run: Experiment, attempt: int, status: Status, reason: str, *, steps: int = 0, seconds: float = 0.0
) -> RunResult:
    """Publishes how an attempt ended without a result; after too many without progress the run has failed.

    Returns:
        The end; where another process was first, its own stands instead.
    """
    tokens = run.tokens_after(steps)
    if status != "failed":
        status, reason = _judged(store, run.experiment_id, attempt, status, reason)
    end = RunResult(
        experiment=run, status=status, loss=None, loss_std_error=None, tokens_seen=tokens, steps=steps,
        flops_spent=tokens * (run.measured_flops_per_token or run.flops_per_token), wall_seconds=seconds, reason=reason,
    )  # fmt: skip
    store.publish_result(end, attempt=attempt)
    return end


def attempts_without_progress(store: Store, name: str, ends: Mapping[int, RunResult]) -> tuple[int, int]:
    """Counts the newest attempts in a row that brought no newer checkpoint: those whose end was seen, and all.

    Those that a signal asked to stop count for nothing.
    """
    checkpoint_step = store.checkpoint_step(name)
    witnessed = total = 0
    for attempt in sorted(ends, reverse=True):
        end = ends[attempt]
        if end.status == "preempted":
            continue
        claim = read_claim(store.root, name, attempt)
        if end.status == "failed" or (claim is not None and claim.checkpoint_step < checkpoint_step):
            break
        witnessed += end.status in WITNESSED
        total += 1
    return witnessed, total


def _judged(store: Store, name: str, attempt: int, status: Status, reason: str) -> tuple[Status, str]:
    if status == "preempted":
        return status, reason
    step = store.checkpoint_step(name)
    claim = read_claim(store.root, name, attempt)
    if claim is not None and claim.checkpoint_step < step:
        return status, reason
    witnessed, total = attempts_without_progress(store, name, store.ends(name))
    witnessed, total = witnessed + (status in WITNESSED), total + 1
    if witnessed < MAX_WITNESSED and total < MAX_WITHOUT_PROGRESS:
        return status, reason
    count = witnessed if witnessed >= MAX_WITNESSED else total
    return "failed", (
        f"{count} attempts in a row ended without a newer checkpoint (step {step}), the last one: {reason} "
        "If nothing is wrong with the run, try it again with --retry-failed."
    )


def read_text(path: Path) -> str:
    """Reads a small file that may be replaced meanwhile, "" without one; opened anew, as shared file systems need."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def open_claims(store: Store, pid: int) -> list[tuple[Experiment, Claim]]:
    """Returns the runs that a process of this machine holds; also once it has ended."""
    listing, machine, found = store.listing(), this_machine(), []
    for run in store.plan.experiments:
        name = run.experiment_id
        newest = listing.newest(name)
        if name not in listing.results and newest and not listing.has_ended(name, newest):
            claim = read_claim(store.root, name, newest)
            if claim is not None and claim.worker.machine == machine and claim.worker.pid == pid:
                found.append((run, claim))
    return found
