"""The training loop: one run from its first token to its last, readable from top to bottom.

A step is a list of sample ids computed from (seed, step). Processes, micro-batches and accumulation only share
them out, and the loss is a sum over the step's targets divided by their number, so none of these changes the result
beyond rounding. Two things do depend on them: dropout masks are keyed by (seed, step, process), and BatchNorm takes
its statistics over a micro-batch.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from flops_fit.claims import Hold
from flops_fit.data.randomness import Draws
from flops_fit.distributed import World
from flops_fit.recipes.optimizers import make_optimizer
from flops_fit.recipes.schedules import learning_rate, trunk_steps
from flops_fit.recipes.trunks import trunk_id
from flops_fit.records import Experiment
from flops_fit.tasks import Task, create_model
from flops_fit.training.checkpoint_timer import CheckpointTimer
from flops_fit.training.checkpoints import load_checkpoint, save_checkpoint, tensors_of
from flops_fit.training.divergence import diverged_before_update, diverged_so_far
from flops_fit.training.engine.compilation import compiled
from flops_fit.training.engine.placement import place
from flops_fit.training.engine.probe import EngineChoice
from flops_fit.training.engine.replicas import Replicas
from flops_fit.training.feeding import MicroBatches, needs_two_samples, pieces, pinned, prefetched, step_batches
from flops_fit.training.gradients import scale_gradients
from flops_fit.training.interruption import stop_run
from flops_fit.training.metrics import MetricsLog
from flops_fit.training.settings import TrainSettings
from flops_fit.training.step import AfterStep, Run, accumulate_alone, accumulate_together
from flops_fit.training.weight_average import WeightAverage
from flops_fit.training.weights import BestSoFar, EvaluationCallback

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """Progress of a run, known also after it raises."""

    hold: Hold = field(default_factory=Hold)
    """Of the attempt: it notes the steps, and says when to stop."""
    steps_from_trunk: int = 0
    """Steps that another run of the same trunk had made."""

    @property
    def steps(self) -> int:
        """Steps done."""
        return self.hold.steps


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model."""

    model: nn.Module
    """With the average of its weights where the recipe has an ``ema_decay``."""
    train_loss: float | None
    """Mean over the last tenth of the steps."""
    diverged: str | None
    """How and at which step the run diverged; None if it completed."""


def train_model(
    task: Task,
    experiment: Experiment,
    run_dir: Path,
    *,
    world: World,
    settings: TrainSettings,
    choice: EngineChoice,
    trunk_dir: Path | None = None,
    leaves_trunk: bool = True,
    progress: Progress | None = None,
    on_evaluation: EvaluationCallback | None = None,
) -> Trained:
    """Trains one model on exactly its planned tokens, from its newest checkpoint or its trunk's if there is one.

    Args:
        task: Model, data and loss.
        experiment: The run.
        run_dir: For metrics and checkpoints; the main process writes them.
        world: The processes that take part; all of them call this.
        settings: Of the engine.
        choice: Precision, micro-batch, compilation.
        trunk_dir: Where runs of one trunk leave the state of their last common step.
        leaves_trunk: Whether this one does.
        progress: Kept up to date.
        on_evaluation: Of the evaluations that keeping the best weights needs.

    Returns:
        The trained model; also where the loss was not finite or exploded, on every process alike.

    Raises:
        ModelFailed: If something raised on one of several processes.
        Interrupted: If a signal asked a process to stop; the step in hand is done and saved.
        Superseded: If another worker has taken over the run.
    """
    assert task.train_data is not None
    recipe, total = experiment.recipe, experiment.num_tokens
    run = _start(task, experiment, world, choice)
    last_common = 0 if trunk_dir is None else trunk_steps(recipe, total)
    _resume(run, experiment, run_dir, trunk_dir, last_common, world, choice)
    run.first_step = run.step
    run.replicas = Replicas(run.bare, run.parameters, world) if world.size > 1 else None
    progress = progress or Progress()
    hold, progress.steps_from_trunk = progress.hold, run.steps_from_trunk
    hold.tick(run.step)
    batches = _batches(task, experiment, run, world, choice)
    leaves_trunk, diverged = leaves_trunk and run.step < last_common, None
    keeps_best = "best" in settings.kept_kinds
    best = BestSoFar(task, experiment, run_dir, world, settings, on_evaluation, hold) if keeps_best else None
    checkpoints = CheckpointTimer(settings.checkpoint_seconds, run.parameters)
    with MetricsLog(run_dir, experiment, first_step=run.step, world=world, settings=settings, choice=choice) as log:
        while run.step < experiment.num_steps:
            rate = learning_rate(recipe, run.step * recipe.batch_tokens, total)
            if is_due := checkpoints.is_due():
                hold.look()
            then = AfterStep(save=is_due, stop=hold.must_stop, superseded=hold.is_superseded)
            _seed_step(experiment.seed, run.step, world)
            if world.size == 1:
                scale = accumulate_alone(task, run, batches, world, choice)
            else:
                scale, then = accumulate_together(task, run, batches, world, choice, then)
            norm = _scaled(run, scale, recipe.max_grad_norm)
            diverged = diverged_before_update(run, norm, world)
            if diverged is not None:
                hold.tick(run.step + 1)  # Paid for, though the weights are those before it.
                break
            _update(run, rate)
            run.step += 1
            hold.tick(run.step)
            if run.average is not None:
                run.average.update(run.step)
            is_fork, is_last = leaves_trunk and run.step == last_common, run.step == experiment.num_steps
            is_due = (then.stop or (then.save and not is_last)) and not then.superseded
            if run.step % settings.log_every == 0 or is_due or is_fork or is_last:
                diverged = diverged_so_far(run, norm, world)
                if diverged is not None:
                    break
                log.write(
                    run.step, tokens=experiment.tokens_after(run.step), loss=run.losses[-1],
                    learning_rate=rate, gradient_norm=norm,
                )  # fmt: skip
            if best is not None:
                best.look(run.step, run.bare, run.parameters, run.average, choice.micro_batch)
            if is_fork and trunk_dir is not None:
                with hold.unless_superseded():
                    _save(run, trunk_dir, trunk_id(experiment), world, settings, choice)
            if is_due:
                with checkpoints.timed(), hold.unless_superseded():
                    _save(run, run_dir / "checkpoints", experiment.experiment_id, world, settings, choice)
                hold.tick()
            if then.stop:
                stop_run(hold, superseded=then.superseded)
    if run.average is not None:
        run.average.replace_weights()
    world.copy_from_main(run.bare.buffers())
    return Trained(
        model=run.bare,
        train_loss=float(np.mean(run.losses[-max(1, len(run.losses) // 10) :])) if run.losses else None,
        diverged=diverged,
    )


def _batches(
    task: Task, experiment: Experiment, run: Run, world: World, choice: EngineChoice
) -> Iterator[MicroBatches]:
    draws = Draws(experiment.seed)
    batches = step_batches(
        task, experiment, run.step, rank=world.rank, size=world.size, micro_batch=choice.micro_batch,
        needs_two=needs_two_samples(run.bare), draws=draws,
    )  # fmt: skip
    if world.device.type != "cuda":
        return batches
    # The first step shows whether the data set draws at random. One that does is not read in a second thread: there
    # it would share the global generators with the forward pass.
    first = list(islice(batches, 1))
    rest = map(pinned, batches) if draws.is_random else prefetched(batches, pinned)
    return chain(map(pinned, first), rest)


def _start(task: Task, experiment: Experiment, world: World, choice: EngineChoice) -> Run:
    torch.manual_seed(experiment.seed)
    bare = world.together(lambda: create_model(task, experiment.size_param_value), what="the making of the model")
    bare = place(bare, world)
    bare.train()
    parameters, decay = [p for p in bare.parameters() if p.requires_grad], experiment.recipe.ema_decay
    recipe = experiment.recipe
    return Run(
        bare=bare,
        model=compiled(bare, world.device, is_split=_is_split(experiment, world, choice)) if choice.compiled else bare,
        parameters=parameters,
        optimizer=make_optimizer(bare, recipe),
        scaler=torch.amp.GradScaler(
            world.device.type, _first_scale(experiment, world), enabled=choice.precision == "fp16"
        ),
        average=None if decay is None else WeightAverage(parameters, decay),
        full_steps=experiment.num_tokens // recipe.batch_tokens,
    )


def _is_split(experiment: Experiment, world: World, choice: EngineChoice) -> bool:
    """Says whether a process runs several micro-batches in a step."""
    samples = experiment.recipe.batch_tokens // experiment.tokens_per_sample
    return len(pieces(samples, 0, world.size, choice.micro_batch)) > 1


def _first_scale(experiment: Experiment, world: World) -> float:
    """What fp16 losses are multiplied by at first; of several processes they are sums, of one a mean."""
    num_targets = 1 if world.size == 1 else experiment.recipe.batch_tokens
    return float(2.0 ** (16 - round(math.log2(num_targets))))


def _resume(
    run: Run,
    experiment: Experiment,
    run_dir: Path,
    trunk_dir: Path | None,
    last_common: int,
    world: World,
    choice: EngineChoice,
) -> None:
    """Loads the run's newest checkpoint, or the newest state of its trunk before its own fork."""
    average = () if run.average is None else run.average.values
    found = load_checkpoint(
        run_dir / "checkpoints", run.bare, run.optimizer, average, world=world, owner=experiment.experiment_id
    )
    if found is None and trunk_dir is not None and last_common > 0:
        # Other arithmetic is another trunk: a branch must be what the run alone would have been.
        found = load_checkpoint(
            trunk_dir, run.bare, run.optimizer, average, world=world, last_step=last_common,
            engine=choice.arithmetic(world.size), owner=trunk_id(experiment),
        )  # fmt: skip
        run.steps_from_trunk = 0 if found is None else found["step"]
    elif found is not None:
        run.steps_from_trunk = found["steps_from_trunk"]
    if found is not None:
        if world.is_main and found["engine"] != choice.arithmetic(world.size):
            logger.warning(
                "run %s resumes with other arithmetic (%s, before: %s): its loss may differ by rounding from that of "
                "a run that was never interrupted", experiment.experiment_id, choice.arithmetic(world.size),
                found["engine"],
            )  # fmt: skip
        run.step, run.losses = found["step"], found["losses"]
        run.scaler.load_state_dict(found["scaler"])


def _save(run: Run, folder: Path, owner: str, world: World, settings: TrainSettings, choice: EngineChoice) -> None:
    if not (world.is_main or world.is_sharded):
        return
    # Putting a sharded model together takes all processes.
    tensors = tensors_of(run.bare, run.optimizer, () if run.average is None else run.average.values)
    if world.is_main:
        state = {
            "step": run.step,
            "owner": owner,
            "steps_from_trunk": run.steps_from_trunk,
            "scaler": run.scaler.state_dict(),
            "engine": choice.arithmetic(world.size),
        }
        save_checkpoint(folder, tensors, state, losses=run.losses, keep=settings.keep_checkpoints)


def _scaled(run: Run, scale: float, max_norm: float | None) -> torch.Tensor | None:
    """Makes the summed gradients those of the step's mean loss, clipped; returns their norm before that."""
    run.scaler.unscale_(run.optimizer)
    return scale_gradients(run.parameters, scale, max_norm)


def _update(run: Run, rate: float) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)


def _seed_step(seed: int, step: int, world: World) -> None:
    """Seeds what the forward pass draws from; `torch.manual_seed` would format a stack trace for each step."""
    value = (seed * 1_000_003 + step * 8_191 + world.rank + 1) & 0x7FFFFFFFFFFFFFFF
    torch.default_generator.manual_seed(value)
    if world.device.type == "cuda":
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(value)
