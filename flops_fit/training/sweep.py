"""The runs of a sweep that this worker takes, one after another, by all its processes together."""

import logging
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto

from flops_fit.claims import Attempt, Board, Hold, Lease, Superseded, this_worker
from flops_fit.claims.time_left import TimeLeft
from flops_fit.distributed import World
from flops_fit.errors import FlopsFitError
from flops_fit.quantities import format_flops
from flops_fit.recipes.trunks import group_by_trunk, trunk_id
from flops_fit.records import FINAL, Experiment, RunResult
from flops_fit.stopping import preempted_by, stop_requested
from flops_fit.store import OTHER_FOLDER, Store
from flops_fit.tasks import Task
from flops_fit.training.evaluation import held_out_samples
from flops_fit.training.experiment import train_experiment
from flops_fit.training.settings import TrainSettings
from flops_fit.training.weights import EVALUATIONS, EvaluationCallback

# Between two looks for a free run while others hold the rest.
POLL_SECONDS = 1.0

ProgressCallback = Callable[[RunResult, float | None], None]
"""Called with each finished run and the estimated seconds left, None until they can be estimated."""

logger = logging.getLogger(__name__)


def train_sweep(
    task: Task,
    experiments: Sequence[Experiment],
    store: Store,
    *,
    world: World,
    settings: TrainSettings,
    progress: ProgressCallback | None = None,
    on_evaluation: EvaluationCallback | None = None,
    on_start: Callable[[Experiment], None] | None = None,
    retry: Mapping[str, int] | None = None,
    wait: bool = True,
) -> None:
    """Trains runs that no other worker holds, and publishes each outcome, until none is left.

    Runs of one trunk (size, seed and recipe) are made shortest first, so that each begins where the one before left
    the common steps. The result of a run is the same to the bit without that; ``flops_spent`` of each counts them,
    and ``flops_from_trunk`` says how many of these another run had made.

    Args:
        task: Model, data and loss.
        experiments: The runs.
        store: Shared with any number of other workers.
        world: The processes that train each run together; all of them call this.
        settings: Of the engine.
        progress: Called by the main process after each run that this worker made.
        on_evaluation: See `weights.EvaluationCallback`.
        on_start: Called by the main process with each run that it takes.
        retry: Newest attempt at each failed run that is to be tried once more.
        wait: Whether to wait for the runs that others hold, and take them over if need be.

    Raises:
        Preempted: If a signal asked to stop; the run in hand has a checkpoint then.
        KeyboardInterrupt: The same for Ctrl-C.
        StoreError: If the disk refuses.
    """
    runs: list[Experiment] = world.agree(list(experiments))
    lease = Lease(seconds=settings.lease_seconds)
    board = Board(store, runs, this_worker(), lease, settings.share_trunks, retry or {}) if world.is_main else None
    left = TimeLeft(group_by_trunk(runs, share_trunks=settings.share_trunks), eval_tokens=eval_tokens(task, settings))
    by_id = {run.experiment_id: run for run in runs}
    results: list[RunResult] = []
    while True:
        attempt, turn = _next_turn(board, world, wait=wait)
        if turn is Turn.STOP:
            asked = stop_requested() or signal.SIGTERM
            if attempt is not None:  # Another process was asked after the main one had taken a run.
                attempt.end("preempted", f"stopped before the first step: got {asked.name}.", steps=0, seconds=0.0)
            raise preempted_by(asked)
        if turn is Turn.WAIT:
            time.sleep(POLL_SECONDS)
            continue
        if turn is Turn.DONE:
            break
        run = by_id[world.agree(None if attempt is None else attempt.experiment.experiment_id)]
        if world.is_main and on_start is not None:
            on_start(run)
        result = _make_attempt(task, run, attempt, store, world, settings, on_evaluation)
        if result is None:
            continue
        results.append(result)
        if world.is_main and progress is not None and (result.status in FINAL or result.status == "failed"):
            progress(result, left.after(result))
    if world.is_main:
        log_shared_flops(results)


class Turn(Enum):
    """What all processes of a world do next."""

    TRAIN = auto()
    WAIT = auto()
    DONE = auto()
    STOP = auto()


def _next_turn(board: Board | None, world: World, *, wait: bool) -> tuple[Attempt | None, Turn]:
    """The main process' attempt, None on the others, and what all do: as it decides, unless one of them must stop."""

    def decide() -> tuple[Attempt | None, Turn]:
        if stop_requested() is not None:
            return None, Turn.STOP
        attempt = None if board is None else board.take()
        if board is None or attempt is not None:
            return attempt, Turn.TRAIN
        is_done = not board.open_runs() or (not wait and board.rest_is_held())
        return None, Turn.DONE if is_done else Turn.WAIT

    attempt, turn = world.together(decide, what="the choice of the next run")
    turns = world.gather(turn)
    return attempt, Turn.STOP if Turn.STOP in turns else turns[0]


def _make_attempt(
    task: Task,
    run: Experiment,
    attempt: Attempt | None,
    store: Store,
    world: World,
    settings: TrainSettings,
    on_evaluation: EvaluationCallback | None,
) -> RunResult | None:
    """Trains a run and publishes how the attempt ended; None where another worker has taken over."""
    trunk = store.root / "trunks" / trunk_id(run) if settings.share_trunks else None
    longer = settings.share_trunks and any(
        trunk_id(e) == trunk_id(run) and not store.has_result(e.experiment_id)
        for e in store.plan.experiments
        if e.group == run.group and e.num_tokens > run.num_tokens
    )
    run_dir = store.run_dir(run.experiment_id)
    hold = Hold(attempt, lease=Lease(seconds=settings.lease_seconds), stall_seconds=settings.stall_seconds)
    try:
        with hold:
            result = train_experiment(
                task, run, run_dir, world=world, settings=settings, trunk_dir=trunk, leaves_trunk=longer,
                on_evaluation=on_evaluation, hold=hold,
            )  # fmt: skip
            if attempt is not None:
                attempt.publish(result)
    except Superseded as error:
        logger.warning("%s; continuing with the next one", error)
        return None
    except BaseException as error:
        if attempt is not None:
            _end(attempt, error, hold)
        raise
    if attempt is not None:
        if result.status in FINAL:
            # Nothing will go on from them; those of a failed or preempted run wait for its next attempt.
            shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
        if trunk is not None and not longer and result.status != "preempted":
            shutil.rmtree(trunk, ignore_errors=True)
    return result


def _end(attempt: Attempt, error: BaseException, hold: Hold) -> None:
    """Publishes that an error ended the command in the middle of a run, where that still can be written."""
    is_asked = isinstance(error, (KeyboardInterrupt, SystemExit))
    reason = str(error) if isinstance(error, FlopsFitError) else f"{type(error).__name__}: {error}"
    try:
        attempt.end("preempted" if is_asked else "stopped", reason, steps=hold.steps, seconds=hold.seconds)
    except OSError as problem:
        logger.warning("%s", problem)


def log_shared_flops(results: Sequence[RunResult]) -> None:
    """Logs how much of the runs did not have to be trained."""
    spent = sum(r.flops_spent for r in results)
    shared = sum(r.flops_from_trunk for r in results)
    if shared:
        logger.info("of %s in these runs, %s were shared along trunks", format_flops(spent), format_flops(shared))


def eval_tokens(task: Task, settings: TrainSettings) -> int:
    """Counts the tokens that a run is evaluated on, all its evaluations together."""
    data = task.eval_data
    times = EVALUATIONS if "best" in settings.kept_kinds else 1
    return 0 if data is None else times * held_out_samples(data, settings.eval_samples) * data.tokens_per_sample


def warn_of_missing_weights(results: Sequence[RunResult], settings: TrainSettings) -> None:
    """Logs which runs have finished without the weights that are now asked for; nothing can bring these back."""
    for kind in settings.kept_kinds:
        missing = sum(r.status == "completed" and kind not in r.weights for r in results)
        if missing:
            logger.warning(
                "%d finished runs have no %s weights: they were trained without train.keep_weights=%s, which holds "
                "from here on. To have theirs too, train them in %s.",
                missing, kind, kind, OTHER_FOLDER,
            )  # fmt: skip
