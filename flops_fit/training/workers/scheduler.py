"""Scheduler of worker processes: assigns trunks to workers and replaces workers that die.

The runs of one trunk continue one another, so a worker is assigned all of them; the longest trunks go first. Workers
publish their own results. A worker that dies is replaced, and its runs resume from their checkpoints. A run that kills
a second worker is recorded as failed, and the rest continue.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from flops_fit import errors
from flops_fit.errors import LaunchError
from flops_fit.records import Experiment, RunResult
from flops_fit.store import Store
from flops_fit.tasks import Task
from flops_fit.training.metrics import steps_logged
from flops_fit.training.settings import TrainSettings
from flops_fit.training.sweep import ProgressCallback, log_shared_flops
from flops_fit.training.time_left import TimeLeft, rough_seconds
from flops_fit.training.trunks import TrunkRuns, group_by_trunk
from flops_fit.training.workers.process import Place, WorkerProcess, places, portable, stop

# Workers that may die at one run, or before they are ready, until that run (or the command) fails.
DEATHS = 2
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

    Raises:
        ConfigError: If another process cannot build the task, or a setting cannot be used here.
        LaunchError: If workers end before they can train.
        StoreError: If the disk refuses.
    """
    trunks = sorted(group_by_trunk(experiments, share_trunks=settings.share_trunks), key=rough_seconds, reverse=True)
    left = TimeLeft(trunks, eval_tokens=eval_tokens, workers=workers)
    free = places(workers)
    gpus = ",".join(sorted({place.gpu for place in free if place.gpu is not None}))
    logger.info("%d workers, CPU threads each: %d%s", workers, free[0].threads, f", on GPU {gpus}" if gpus else "")
    config = {"root": store.root, "settings": settings, "make_task": portable(make_task)}
    scheduler = _Scheduler(trunks, store, free, config, left, progress)
    try:
        while scheduler.assign_all():
            for worker, message in scheduler.messages():
                scheduler.handle(worker, message)
    finally:
        stop(scheduler.workers)
    log_shared_flops(scheduler.results)


class _Scheduler:
    """The waiting trunks, and the workers that train the others."""

    def __init__(
        self,
        trunks: list[TrunkRuns],
        store: Store,
        free: list[Place],
        config: dict[str, Any],
        left: TimeLeft,
        progress: ProgressCallback | None,
    ) -> None:
        self.waiting, self.store, self.free, self.config = trunks, store, free, config
        self.left, self.progress = left, progress
        self.workers: list[WorkerProcess] = []
        self.results: list[RunResult] = []
        self.deaths: Counter[str] = Counter()

    def assign_all(self) -> bool:
        """Assigns each idle worker a trunk, or dismisses it; returns whether any is working."""
        for worker in [w for w in self.workers if not w.runs]:
            if self.waiting:
                self._assign(worker)
            else:
                self._dismiss(worker)
        while self.waiting and self.free:
            worker = WorkerProcess(self.free.pop(0), **self.config)
            self.workers.append(worker)
            self._assign(worker)
        return bool(self.workers)

    def messages(self) -> Iterator[tuple[WorkerProcess, tuple[str, ...] | None]]:
        """Waits a while for messages and yields them with their workers; None from one that has ended."""
        readable = wait([w.link for w in self.workers], POLL_SECONDS)
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
                self.left.start(worker.runs[0].experiment_id)
            case ("done", name):
                self._done(worker, name)
            case ("error", kind, text):
                raise getattr(errors, kind, RuntimeError)(text)
            case _:
                self._replace(worker)

    def _assign(self, worker: WorkerProcess) -> None:
        worker.assign(self.waiting.pop(0))
        if worker.is_ready:
            self.left.start(worker.runs[0].experiment_id)

    def _dismiss(self, worker: WorkerProcess) -> None:
        self.workers.remove(worker)
        self.free.append(worker.place)
        stop([worker])

    def _done(self, worker: WorkerProcess, name: str) -> None:
        worker.runs = [e for e in worker.runs if e.experiment_id != name]
        if worker.runs:
            self.left.start(worker.runs[0].experiment_id)
        result = self.store.outcome(name)
        assert result is not None
        self._report(result)

    def _report(self, result: RunResult) -> None:
        self.results.append(result)
        if self.progress is not None:
            self.progress(result, self.left.after(result))

    def _replace(self, worker: WorkerProcess) -> None:
        """Assigns the runs of a dead worker to another one."""
        ending = worker.describe_end()
        for run in list(worker.runs):
            # Published, but the worker died before it could report it.
            result = self.store.outcome(run.experiment_id)
            if result is not None and result.status != "failed":
                self._done(worker, run.experiment_id)
        runs, worker.runs = worker.runs, []
        self._dismiss(worker)
        if not runs:
            return
        position = runs[0].experiment_id if worker.is_ready else "start"
        self.deaths[position] += 1
        is_last = self.deaths[position] >= DEATHS
        if not worker.is_ready and (is_last or not worker.was_killed):
            raise LaunchError(
                f"a worker process {ending} before it could train. See its output above, and check how much "
                "memory each worker takes. Use fewer: train.workers=1 trains in this process."
            )
        if is_last:
            self._record_failed(runs.pop(0), ending)
        else:
            logger.warning("a worker process %s; another one continues its %d runs", ending, len(runs))
        if runs:
            self.waiting.insert(0, tuple(runs))

    def _record_failed(self, run: Experiment, ending: str) -> None:
        reason = (
            f"{DEATHS} worker processes died while training this run, without a Python error; the last one {ending}. "
            "The likely causes are the system's out-of-memory killer and a crash in native code."
        )
        steps = steps_logged(self.store.run_dir(run.experiment_id))
        tokens = run.tokens_after(steps)
        result = RunResult(
            experiment=run, status="failed", loss=None, loss_std_error=None, tokens_seen=tokens, steps=steps,
            flops_spent=tokens * (run.measured_flops_per_token or run.flops_per_token), wall_seconds=0.0, reason=reason,
        )  # fmt: skip
        self.store.publish_result(result)
        self._report(result)
