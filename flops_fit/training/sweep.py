"""From the runs that are to be made to their results, one after another, by all processes together."""

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from flops_fit.errors import Diverged, StoreError
from flops_fit.launching import World
from flops_fit.records import Experiment, RunResult
from flops_fit.store import Store
from flops_fit.tasks import Task
from flops_fit.training.evaluation import held_out_loss
from flops_fit.training.loop import Trained, train_model
from flops_fit.training.settings import TrainSettings

# Below this a second thread costs more than it brings (measured at 0.1M parameters).
MIN_PARAMS_FOR_THREADS = 1_000_000

logger = logging.getLogger(__name__)


def train_sweep(
    task: Task,
    experiments: Sequence[Experiment],
    store: Store,
    *,
    world: World,
    settings: TrainSettings,
    progress: Callable[[RunResult], None] | None = None,
) -> None:
    """Trains runs and publishes each result; a run that fails is recorded and the next one begins."""
    for experiment in world.agree(list(experiments)):
        result = train_experiment(
            task, experiment, store.run_dir(experiment.experiment_id), world=world, settings=settings
        )
        if world.is_main:
            store.publish_result(result)
            if progress is not None:
                progress(result)


def train_experiment(
    task: Task, experiment: Experiment, run_dir: Path, *, world: World, settings: TrainSettings
) -> RunResult:
    """Trains and evaluates one run; returns what it came to, whatever that is."""
    started = time.perf_counter()
    trained: Trained | None = None
    loss = error = reason = None
    status = "completed"
    try:
        with _threads_for(experiment.num_params, world):
            trained = _train_within_memory(task, experiment, run_dir, world, settings)
            loss, error = held_out_loss(task, trained.model, world, settings.eval_samples)
    except Diverged as problem:
        status, reason = "diverged", str(problem)
    except StoreError:
        raise
    except Exception:
        status, reason = "failed", traceback.format_exc()
    seen = 0 if trained is None else trained.tokens_seen
    data = task.train_data
    unique = None if data is None or data.num_samples is None else data.num_samples * data.tokens_per_sample
    per_token = experiment.measured_flops_per_token or experiment.flops_per_token
    return RunResult(
        experiment=experiment,
        status=status,  # type: ignore[arg-type]
        loss=loss,
        loss_std_error=error,
        tokens_seen=seen,
        flops_spent=seen * per_token,
        wall_seconds=time.perf_counter() - started,
        reason=reason,
        epochs=None if unique is None else seen / unique,
        train_loss=None if trained is None else trained.train_loss,
        steps=0 if trained is None else trained.steps,
        environment=_environment(world, None if trained is None else trained.precision),
    )


def _train_within_memory(
    task: Task, experiment: Experiment, run_dir: Path, world: World, settings: TrainSettings
) -> Trained:
    micro_batch = settings.micro_batch_samples
    while True:
        try:
            return train_model(task, experiment, run_dir, world=world, settings=settings, micro_batch=micro_batch)
        except torch.OutOfMemoryError:
            # Halving on one process alone would leave the others waiting for it.
            if world.size > 1 or micro_batch == 1:
                raise
            share = experiment.recipe.batch_tokens // experiment.tokens_per_sample
            micro_batch = max(1, (micro_batch or share) // 2)
            logger.warning("out of memory: %d samples per forward pass from here", micro_batch)


@contextlib.contextmanager
def _threads_for(num_params: int, world: World) -> Iterator[None]:
    before = torch.get_num_threads()
    if world.device.type == "cpu" and num_params < MIN_PARAMS_FOR_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _environment(world: World, precision: str | None) -> dict[str, Any]:
    return {
        "world_size": world.size,
        "device": world.device.type,
        "precision": precision,
        "torch": torch.__version__,
        "ended_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": os.uname().nodename,
    }
