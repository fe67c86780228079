"""Supervisor of worker processes: starts them, replaces those that die or hang, and passes on requests to stop.

Workers take runs from the folder by themselves (`claims`), as those of other commands and machines do. What only a
parent can see is how a process ended: it publishes that, and a run that kills too many workers in a row has failed.
"""

import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from typing import Any

from flops_fit import errors
from flops_fit.claims import Board, Lease, end_attempt, open_claims, read_beat, this_worker
from flops_fit.claims.time_left import TimeLeft
from flops_fit.errors import LaunchError, Preempted
from flops_fit.recipes.trunks import group_by_trunk
from flops_fit.records import Experiment, RunResult
from flops_fit.stopping import preempted_by, stop_requested
from flops_fit.store import Store
from flops_fit.tasks import Task
from flops_fit.training.settings import TrainSettings
from flops_fit.training.sweep import ProgressCallback, log_shared_flops
from flops_fit.training.workers.process import (
    GRACE_SECONDS,
    INTERRUPT_SECONDS,
    Place,
    WorkerProcess,
    places,
    portable,
    stop,
)

# Workers that may die before they are ready, until the command fails.
DEATHS_AT_START = 2
# A dead worker's children can keep its pipe open for a while, so its exit is polled too.
POLL_SECONDS = 1.0

logger = logging.getLogger(__name__)


def train_with_workers(
    make_task: Callable[[], Task],
    experiments: Sequence[Experiment],
    store: Store,
    *,
    workers: int,
    settings: TrainSettings,
    eval_tokens: int,
    progress: ProgressCallback | None = None,
    retry: Mapping[str, int] | None = None,
    wait: bool = True,
) -> None:
    """Trains runs in worker processes, with the results of one process of as many threads.

    Args:
        make_task: Called in each worker.
        experiments: The runs.
        store: Where results go.
        workers: How many processes.
        settings: Of the engine.
        eval_tokens: Tokens of each held-out loss, for the time left.
        progress: Called after each run.
        retry: Newest attempt at each failed run that is to be tried once more.
        wait: Whether to wait for the runs that other commands hold, and take them over if need be.

    Raises:
        ConfigError: If another process cannot build the task, or a setting cannot be used here.
        LaunchError: If workers end before they can train.
        Preempted: If a signal asked this process or a worker to stop.
        StoreError: If the disk refuses.
    """
    trunks = group_by_trunk(experiments, share_trunks=settings.share_trunks)
    free = places(workers)
    gpus = ",".join(sorted({place.gpu for place in free if place.gpu is not None}))
    logger.info("%d workers, CPU threads each: %d%s", workers, free[0].threads, f", on GPU {gpus}" if gpus else "")
    supervisor = _Supervisor(
        store=store,
        settings=settings,
        board=Board(
            store, experiments, this_worker(), Lease(seconds=settings.lease_seconds), settings.share_trunks, retry or {}
        ),
        config={
            "root": store.root, "runs": tuple(e.experiment_id for e in experiments), "retry": dict(retry or {}),
            "settings": settings, "make_task": portable(make_task),
        },
        left=TimeLeft(trunks, eval_tokens=eval_tokens, workers=workers),
        progress=progress,
    )  # fmt: skip
    try:
        supervisor.start(free)
        while supervisor.workers or (wait and supervisor.restart(free[0])):
            for worker, message in supervisor.messages():
                supervisor.handle(worker, message)
            supervisor.look_after()
    finally:
        stop(supervisor.workers)
    log_shared_flops(supervisor.results)


@dataclass
class _Beaten:
    count: int
    since: float


class _Supervisor:
    """The workers, and what is known of them."""

    def __init__(
        self,
        *,
        store: Store,
        settings: TrainSettings,
        board: Board,
        config: dict[str, Any],
        left: TimeLeft,
        progress: ProgressCallback | None,
    ) -> None:
        self.store, self.settings, self.board, self.config = store, settings, board, config
        self.left, self.progress = left, progress
        self.workers: list[WorkerProcess] = []
        self.results: list[RunResult] = []
        self.deaths_at_start = 0
        self._beaten: dict[int, _Beaten] = {}
        self._looked = time.monotonic()

    def start(self, free: Sequence[Place]) -> None:
        """Starts a worker in each place."""
        self.workers += [WorkerProcess(place, **self.config) for place in free]

    def restart(self, place: Place) -> bool:
        """Waits for runs that others hold; starts a worker once one is free. Returns whether any is left."""
        while self.board.open_runs():
            if (asked := stop_requested()) is not None:
                raise preempted_by(asked)
            if self.board.has_free():
                self.start([place])
                return True
            time.sleep(POLL_SECONDS)
        return False

    def messages(self) -> Iterator[tuple[WorkerProcess, tuple[str, ...] | None]]:
        """Waits a while for messages and yields them with their workers; None from one that has ended."""
        readable = wait_for([w.link for w in self.workers], POLL_SECONDS)
        for worker in list(self.workers):
            if worker.link in readable:
                yield worker, worker.receive()
            elif worker.process.poll() is not None and not worker.link.poll():
                yield worker, None

    def handle(self, worker: WorkerProcess, message: tuple[str, ...] | None) -> None:
        """Acts on a message."""
        match message:
            case ("ready",):
                worker.is_ready = True
            case ("start", name):
                worker.run = name
                self.left.start(name)
            case ("done", name):
                worker.run = None
                self._report(name)
            case ("end",):
                worker.has_ended = True
            case ("preempted", text):
                raise Preempted(text)
            case ("error", kind, text):
                raise getattr(errors, kind, RuntimeError)(text)
            case _:
                self._replace_dead(worker)

    def look_after(self) -> None:
        """Stops all where a signal asks to; kills workers whose heart has stopped.

        Raises:
            Preempted: If a signal asked to stop.
            KeyboardInterrupt: The same for Ctrl-C.
        """
        if (asked := stop_requested()) is not None:
            stop(self.workers, seconds=INTERRUPT_SECONDS if asked == signal.SIGINT else GRACE_SECONDS)
            self.workers.clear()
            raise preempted_by(asked)
        now, lease = time.monotonic(), self.board.lease
        if now - self._looked < min(lease.beat_seconds, self.settings.stall_seconds / 10):
            return
        self._looked = now
        for worker in self.workers:
            for run, claim in open_claims(self.store, worker.process.pid):
                beat = read_beat(self.store.root, run.experiment_id, claim.attempt)
                count = 0 if beat is None else beat.count
                last = self._beaten.get(worker.process.pid)
                if last is None or last.count != count:
                    self._beaten[worker.process.pid] = _Beaten(count, now)
                elif now - last.since > self.settings.stall_seconds + 2 * lease.beat_seconds:
                    logger.warning("a worker process sends no heartbeats; killing it")
                    reason = f"no heartbeat for {now - last.since:.0f} s: the process was stopped or hung."
                    end_attempt(self.store, run, claim.attempt, "stalled", reason, steps=beat.steps if beat else 0)
                    worker.kill()

    def _report(self, name: str) -> None:
        result = self.store.outcome(name)
        if result is None:
            return
        self.results.append(result)
        if self.progress is not None:
            self.progress(result, self.left.after(result))

    def _replace_dead(self, worker: WorkerProcess) -> None:
        """Publishes how a worker ended in the middle of a run, and replaces it while runs are left."""
        ending = worker.describe_end()
        stop([worker])
        self.workers.remove(worker)
        if worker.has_ended:
            return
        if not worker.is_ready:
            self.deaths_at_start += 1
            if self.deaths_at_start >= DEATHS_AT_START or not worker.was_killed:
                raise LaunchError(
                    f"a worker process {ending} before it could train. See its output above, and check how much "
                    "memory each worker takes. Use fewer: train.workers=1 trains in this process."
                )
        reported = {r.experiment.experiment_id for r in self.results}
        if worker.run is not None and worker.run not in reported and self.store.has_result(worker.run):
            # Published, but the worker died before it could report it.
            self._report(worker.run)
        for run, claim in open_claims(self.store, worker.process.pid):
            self._end(run, claim.attempt, ending)
        if self.board.open_runs():
            logger.warning("a worker process %s; another one continues", ending)
            self.start([worker.place])

    def _end(self, run: Experiment, attempt: int, ending: str) -> None:
        beat = read_beat(self.store.root, run.experiment_id, attempt)
        reason = (
            f"its worker process {ending}, without a Python error. The likely causes are the system's out-of-memory "
            "killer and a crash in native code."
        )
        steps, seconds = (0, 0.0) if beat is None else (beat.steps, beat.seconds)
        end = end_attempt(self.store, run, attempt, "died", reason, steps=steps, seconds=seconds)
        if end.status == "failed":
            self._report(run.experiment_id)
