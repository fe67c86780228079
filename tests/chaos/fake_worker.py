"""A worker process: the real board, claims, heart and store around the fake training, with an audit of what it did.

Each fact is one line of a private file, written by one call, so a kill tears at most the last one.
"""

import contextlib
import dataclasses
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import fake_training
from broken import break_mechanism

from flops_fit.claims import Attempt, Board, Hold, Lease, Superseded, board, end_attempt, this_worker
from flops_fit.errors import FlopsFitError
from flops_fit.records import Experiment, RunResult
from flops_fit.store import Store

DAY = 86_400.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """How a worker works."""

    store: Store
    audit: Path | None = None
    """Its private file."""
    machine: str | None = None
    """Pretended machine, so that only the lease tells others of a death; None for this one."""
    lease_seconds: float = 600.0
    checkpoint_steps: int = 4
    step_seconds: float = 0.0
    clock_seed: int | None = None
    """Of a wall clock that is a day off and jumps; None for the true one."""
    broken: str | None = None
    """See `broken.MECHANISMS`."""


def work(settings: WorkerSettings) -> None:
    """Takes runs, trains and publishes them until none is left.

    Raises:
        StoreError: If the disk refuses.
    """
    if settings.clock_seed is not None:
        _shift_wall_clock(random.Random(settings.clock_seed))
    break_mechanism(settings.broken)
    audit = Audit(settings.audit)
    store = settings.store
    worker = this_worker()
    if settings.machine is not None:
        worker = dataclasses.replace(worker, machine=settings.machine)
    lease = Lease(seconds=settings.lease_seconds)
    runs = Board(store, store.plan.experiments, worker, lease)
    with audit.of_ends():
        while True:
            audit.looked = time.monotonic()
            taken = runs.take()
            if taken is not None:
                audit.note("claim", taken)
                _make_attempt(AuditedAttempt(audit, taken), settings, lease, audit)
            elif runs.open_runs():
                time.sleep(min(0.05, lease.seconds / 10))
            else:
                return


def _make_attempt(attempt: "AuditedAttempt", settings: WorkerSettings, lease: Lease, audit: "Audit") -> None:
    """As `training.sweep` does, without torch."""
    run, store = attempt.experiment, attempt.store
    hold = Hold(attempt, lease=lease)
    try:
        with hold:
            result = fake_training.train(
                run, store.run_dir(run.experiment_id), hold, checkpoint_steps=settings.checkpoint_steps,
                step_seconds=settings.step_seconds, on_step=lambda step: audit.note("step", attempt, step=step),
                environment={"pid": os.getpid(), "attempt": attempt.number},
            )  # fmt: skip
    except Superseded:
        audit.note("superseded", attempt)
        return
    except FlopsFitError as error:
        audit.note("refused by the disk", attempt)
        try:
            attempt.end("stopped", str(error), steps=hold.steps, seconds=hold.seconds)
        except OSError:
            audit.note("end refused by the disk", attempt)
        raise
    is_mine = store.publish_result(result, attempt=attempt.number)
    audit.note("publish", attempt, is_mine=is_mine)
    fake_training.shutil.rmtree(store.run_dir(run.experiment_id) / "checkpoints", ignore_errors=True)


class AuditedAttempt(Attempt):
    """An attempt whose heartbeats are noted."""

    def __init__(self, audit: "Audit", attempt: Attempt) -> None:
        super().__init__(**{f.name: getattr(attempt, f.name) for f in dataclasses.fields(Attempt)})
        object.__setattr__(self, "audit", audit)

    def beat(self, beat: object) -> None:
        began = time.monotonic()
        super().beat(beat)  # type: ignore[arg-type]
        self.audit.note("beat", self, began=began)  # type: ignore[attr-defined]


class Audit:
    """Facts of a worker; without a path none are kept."""

    def __init__(self, path: Path | None) -> None:
        self.looked = 0.0
        """When the worker began its last look at the folder."""
        self._handle = None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def note(self, kind: str, attempt: Attempt, **values: object) -> None:
        """Writes a fact on an attempt of this worker's."""
        self._write(kind, attempt.experiment.experiment_id, attempt.number, **values)

    @contextlib.contextmanager
    def of_ends(self) -> Iterator[None]:
        """Within this the board's decisions that another worker's attempt is lost are noted, with when it looked."""

        def end(store: Store, run: Experiment, attempt: int, *rest: Any, **options: Any) -> RunResult:
            self._write("lost", run.experiment_id, attempt, looked=self.looked)
            return end_attempt(store, run, attempt, *rest, **options)

        with mock.patch.object(board, "end_attempt", end):
            yield

    def _write(self, kind: str, name: str, attempt: int, **values: object) -> None:
        """``at`` is a clock that all processes of the machine share."""
        if self._handle is not None:
            fact = {"kind": kind, "id": name, "attempt": attempt, "pid": os.getpid(), "at": time.monotonic(), **values}
            os.write(self._handle, (json.dumps(fact) + "\n").encode())


def _shift_wall_clock(rng: random.Random) -> None:
    """Makes the wall clock of this process a day wrong, and jump by up to a day at each look."""
    true_time, offset = time.time, rng.choice((-DAY, DAY))
    time.time = lambda: true_time() + offset + rng.uniform(-DAY, DAY)
