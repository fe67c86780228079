"""One run of the plan: trained, evaluated, and recorded, whatever its outcome."""

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from flops_fit.claims import Hold, Superseded
from flops_fit.distributed import World
from flops_fit.errors import ConfigError, ModelFailed, StoreError
from flops_fit.records import Experiment, RunResult
from flops_fit.tasks import Task
from flops_fit.training.engine.probe import EngineChoice, choose_engine, halved
from flops_fit.training.evaluation import held_out_loss
from flops_fit.training.interruption import Interrupted
from flops_fit.training.loop import Progress, Trained, train_model
from flops_fit.training.settings import TrainSettings
from flops_fit.training.weights import EvaluationCallback, save_weights

# Below this size a second thread slows training down (measured at 0.1M parameters).
MIN_PARAMS_FOR_THREADS = 1_000_000

logger = logging.getLogger(__name__)


def train_experiment(
    task: Task,
    experiment: Experiment,
    run_dir: Path,
    *,
    world: World,
    settings: TrainSettings,
    trunk_dir: Path | None = None,
    leaves_trunk: bool = True,
    on_evaluation: EvaluationCallback | None = None,
    hold: Hold | None = None,
) -> RunResult:
    """Trains and evaluates one run; returns its outcome, failures included.

    Args:
        task: Model, data and loss.
        experiment: The run.
        run_dir: For its metrics and checkpoints.
        world: The processes that take part; all of them call this.
        settings: Of the engine.
        trunk_dir: Where runs of one trunk keep their common steps and the engine's choice; None for a run alone.
        leaves_trunk: Whether to leave the state of the last common step there for a longer run.
        on_evaluation: See `weights.EvaluationCallback`.
        hold: Of the attempt; None for a run that nobody else can take and no signal stops.

    Raises:
        Superseded: If another worker has taken over the run.
        ConfigError: If a setting cannot be used here.
        StoreError: If the disk refuses.
    """
    started, num_samples = time.perf_counter(), None if task.train_data is None else task.train_data.num_samples
    hold = hold or Hold()
    trained: Trained | None = None
    progress = Progress(hold)
    choice: EngineChoice | None = None
    loss = error = reason = None
    status = "completed"
    weights: dict[str, str] = {}
    try:
        with threads_for(experiment.num_params, world):
            choice = choose_engine(task, experiment, world, settings, (trunk_dir or run_dir) / "engine.json")
            trained, choice = _train_within_memory(
                task, experiment, run_dir, world, settings, choice, trunk_dir, leaves_trunk, progress,
                on_evaluation,
            )  # fmt: skip
            if trained.diverged is None:
                loss, error = held_out_loss(
                    task, trained.model, world, settings.eval_samples, choice.micro_batch, hold=hold
                )
                weights = save_weights(trained.model, experiment, run_dir, loss, world=world, settings=settings)
            else:
                status, reason = "diverged", trained.diverged
    except (StoreError, ConfigError, Superseded):
        raise
    except Interrupted as interrupted:
        status, reason, loss, error = "preempted", str(interrupted), None, None
    except Exception as problem:
        if world.size > 1 and not isinstance(problem, (ModelFailed, torch.OutOfMemoryError)):
            raise  # Only some processes raised: they cannot go on together, and the launcher must end them.
        status, reason, loss, error = "failed", traceback.format_exc(), None, None
    seen = experiment.tokens_after(progress.steps)
    causal = experiment.measured_flops_per_token_causal
    per_token = experiment.measured_flops_per_token or experiment.flops_per_token
    return RunResult(
        experiment=experiment,
        status=status,  # type: ignore[arg-type]
        loss=loss,
        loss_std_error=error,
        tokens_seen=seen,
        flops_spent=seen * per_token,
        flops_spent_causal=None if causal is None else seen * causal,
        wall_seconds=time.perf_counter() - started,
        reason=reason,
        epochs=None if num_samples is None else seen / (num_samples * experiment.tokens_per_sample),
        train_loss=None if trained is None else trained.train_loss,
        steps=progress.steps,
        steps_from_trunk=progress.steps_from_trunk,
        flops_from_trunk=progress.steps_from_trunk * experiment.recipe.batch_tokens * per_token,
        weights=weights,
        environment=_environment(world, choice),
    )


def _train_within_memory(
    task: Task,
    experiment: Experiment,
    run_dir: Path,
    world: World,
    settings: TrainSettings,
    choice: EngineChoice,
    trunk_dir: Path | None,
    leaves_trunk: bool,
    progress: Progress,
    on_evaluation: EvaluationCallback | None,
) -> tuple[Trained, EngineChoice]:
    while True:
        try:
            trained = train_model(
                task, experiment, run_dir, world=world, settings=settings, choice=choice,
                trunk_dir=trunk_dir, leaves_trunk=leaves_trunk, progress=progress, on_evaluation=on_evaluation,
            )  # fmt: skip
            return trained, choice
        except torch.OutOfMemoryError:
            # Raised on every process alike.
            smaller = halved(choice, experiment, world.size)
            if smaller is None:
                raise
            choice = smaller
            logger.warning("out of memory: continuing with %d samples per forward pass", choice.micro_batch)


@contextlib.contextmanager
def threads_for(num_params: int, world: World) -> Iterator[None]:
    """Within this a model too small to gain from threads runs on one CPU thread."""
    before = torch.get_num_threads()
    if world.device.type == "cpu" and num_params < MIN_PARAMS_FOR_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _environment(world: World, choice: EngineChoice | None) -> dict[str, Any]:
    return {
        "world_size": world.size,
        "device": torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else world.device.type,
        "precision": None if choice is None else choice.precision,
        "plain_attention": None if choice is None else choice.plain_attention,
        "micro_batch": None if choice is None else choice.micro_batch,
        "compiled": None if choice is None else choice.compiled,
        "torch": torch.__version__,
        "ended_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": os.uname().nodename,
    }
