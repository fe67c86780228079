"""The runs of a sweep, one after another, by all processes together."""

import logging
import shutil
from collections.abc import Callable, Sequence

from flops_fit.distributed import World
from flops_fit.quantities import format_flops
from flops_fit.records import Experiment, RunResult
from flops_fit.store import OTHER_FOLDER, Store
from flops_fit.tasks import Task
from flops_fit.training.evaluation import held_out_samples
from flops_fit.training.experiment import train_experiment
from flops_fit.training.settings import TrainSettings
from flops_fit.training.time_left import TimeLeft
from flops_fit.training.trunks import group_by_trunk, order_by_trunk, trunk_id
from flops_fit.training.weights import EVALUATIONS, EvaluationCallback

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
) -> None:
    """Trains runs and publishes each result; a run that fails is recorded and the next one begins.

    Runs of one trunk (size, seed and recipe) are made shortest first, so that each begins where the one before left
    the common steps. The result of a run is the same to the bit without that; ``flops_spent`` of each counts them,
    and ``flops_from_trunk`` says how many of these another run had made.
    """
    runs = order_by_trunk(world.agree(list(experiments)))
    left = TimeLeft(group_by_trunk(runs, share_trunks=settings.share_trunks), eval_tokens=eval_tokens(task, settings))
    results = []
    for i, experiment in enumerate(runs):
        trunk = store.root / "trunks" / trunk_id(experiment) if settings.share_trunks else None
        longer = any(trunk_id(e) == trunk_id(experiment) for e in runs[i + 1 :])
        run_dir = store.run_dir(experiment.experiment_id)
        result = train_experiment(
            task, experiment, run_dir, world=world, settings=settings, trunk_dir=trunk, leaves_trunk=longer,
            on_evaluation=on_evaluation,
        )  # fmt: skip
        if world.is_main:
            store.publish_result(result)
            if result.status != "failed":
                # Nothing will go on from them; those of a failed run wait for its next attempt.
                shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
            if trunk is not None and not longer:
                shutil.rmtree(trunk, ignore_errors=True)
            if progress is not None:
                progress(result, left.after(result))
        results.append(result)
    if world.is_main:
        log_shared_flops(results)


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
