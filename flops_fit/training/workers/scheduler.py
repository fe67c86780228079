"""Who trains which runs, when several processes train a sweep, and what if one of them dies?

The runs of one trunk go on from one another, so a worker is given all of them; the longest trunks go first. A worker
publishes its results itself. One that dies is replaced, and its runs are given out once more: they go on from their
checkpoints. A run at which a second worker dies is recorded as failed, and the rest goes on.
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

# Workers that may die at one run, or before they are ready, and be replaced.
DEATHS = 2
# A dead worker's children can hold its end of the pipe for a while, so its end is also asked for.
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
    """Trains runs in worker processes; each result is what one process with as many threads would have got.

    Args:
        make_task: Called in each worker.
        experiments: The runs.
        store: Where results go.
        workers: How many processes.
        settings: Of the engine.
        eval_tokens: Of each held-out loss, for the time left.
        progress: Told of each run that has ended.

    Raises:
        ConfigError: If the task cannot be made in another process, or a setting cannot be used here.
        LaunchError: If workers end before they can train.
        StoreError: If the disk refuses.
    """
    chains = sorted(group_by_trunk(experiments, share_trunks=settings.share_trunks), key=rough_seconds, reverse=True)
    left = TimeLeft(chains, eval_tokens=eval_tokens, workers=workers)
    where = places(workers)
    gpus = ",".join(sorted({place.gpu for place in where if place.gpu is not None}))
    logger.info("%d workers, CPU threads each: %d%s", workers, where[0].threads, f", on GPU {gpus}" if gpus else "")
    orders = {"root": store.root, "settings": settings, "make_task": portable(make_task)}
    sharing = _Sharing(chains, store, where, orders, left, progress)
    try:
        while sharing.give_out():
            for worker, message in sharing.messages():
                sharing.take(worker, message)
    finally:
        stop(sharing.workers)
    log_shared_flops(sharing.results)


class _Sharing:
    """The chains that wait, and the workers that train the others."""

    def __init__(
        self,
        chains: list[TrunkRuns],
        store: Store,
        free: list[Place],
        orders: dict[str, Any],
        left: TimeLeft,
        progress: ProgressCallback | None,
    ) -> None:
        self.waiting, self.store, self.free, self.orders = chains, store, free, orders
        self.left, self.progress = left, progress
        self.workers: list[WorkerProcess] = []
        self.results: list[RunResult] = []
        self.deaths: Counter[str] = Counter()

    def give_out(self) -> bool:
        """Gives each worker something to do, or its leave; returns whether any is at work."""
        for worker in [w for w in self.workers if not w.chain]:
            if self.waiting:
                self._give(worker)
            else:
                self._dismiss(worker)
        while self.waiting and self.free:
            worker = WorkerProcess(self.free.pop(0), **self.orders)
            self.workers.append(worker)
            self._give(worker)
        return bool(self.workers)

    def messages(self) -> Iterator[tuple[WorkerProcess, tuple[str, ...] | None]]:
        """Yields what workers have said, after waiting for it a while; None from one that has ended."""
        heard = wait([w.link for w in self.workers], POLL_SECONDS)
        for worker in list(self.workers):
            if worker.link in heard:
                yield worker, worker.hear()
            elif worker.process.poll() is not None and not worker.link.poll():
                yield worker, None

    def take(self, worker: WorkerProcess, message: tuple[str, ...] | None) -> None:
        """Acts on a message."""
        match message:
            case ("ready",):
                worker.is_ready = True
                self.left.begin(worker.chain[0].experiment_id)
            case ("done", name):
                self._done(worker, name)
            case ("error", kind, text):
                raise getattr(errors, kind, RuntimeError)(text)
            case _:
                self._replace(worker)

    def _give(self, worker: WorkerProcess) -> None:
        worker.give(self.waiting.pop(0))
        if worker.is_ready:
            self.left.begin(worker.chain[0].experiment_id)

    def _dismiss(self, worker: WorkerProcess) -> None:
        self.workers.remove(worker)
        self.free.append(worker.place)
        stop([worker])

    def _done(self, worker: WorkerProcess, name: str) -> None:
        worker.chain = [e for e in worker.chain if e.experiment_id != name]
        if worker.chain:
            self.left.begin(worker.chain[0].experiment_id)
        result = self.store.outcome(name)
        assert result is not None
        self._tell(result)

    def _tell(self, result: RunResult) -> None:
        self.results.append(result)
        if self.progress is not None:
            self.progress(result, self.left.after(result))

    def _replace(self, worker: WorkerProcess) -> None:
        """Gives the runs of a dead worker to another one."""
        how = worker.ended()
        for run in list(worker.chain):
            # Published, and dead before it could say so.
            result = self.store.outcome(run.experiment_id)
            if result is not None and result.status != "failed":
                self._done(worker, run.experiment_id)
        chain, worker.chain = worker.chain, []
        self._dismiss(worker)
        if not chain:
            return
        at = chain[0].experiment_id if worker.is_ready else "start"
        self.deaths[at] += 1
        is_last = self.deaths[at] >= DEATHS
        if not worker.is_ready and (is_last or not worker.was_killed):
            raise LaunchError(
                f"a worker process {how} before it could train. Look above for what it said, at the memory that "
                "each of them takes, and use fewer of them: train.workers=1 trains in this process."
            )
        if is_last:
            self._record_failed(chain.pop(0), how)
        else:
            logger.warning("a worker process %s; another one goes on with its %d runs", how, len(chain))
        if chain:
            self.waiting.insert(0, tuple(chain))

    def _record_failed(self, run: Experiment, how: str) -> None:
        reason = (
            f"{DEATHS} worker processes ended while they trained this run, without a word of Python's; the last one "
            f"{how}. That is how the system answers where memory runs out, and how native code crashes."
        )
        steps = steps_logged(self.store.run_dir(run.experiment_id))
        tokens = run.tokens_after(steps)
        result = RunResult(
            experiment=run, status="failed", loss=None, loss_std_error=None, tokens_seen=tokens, steps=steps,
            flops_spent=tokens * (run.measured_flops_per_token or run.flops_per_token), wall_seconds=0.0, reason=reason,
        )  # fmt: skip
        self.store.publish_result(result)
        self._tell(result)
