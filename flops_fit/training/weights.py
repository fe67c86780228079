"""Weights that outlive a run: of its end, and of its lowest held-out loss.

With ``train.keep_weights`` best or both, the held-out loss is also measured at every tenth of a run's steps: as the
final loss is, on the same samples and, where the recipe has an ``ema_decay``, of the averaged weights. A branch that
begins on a trunk's steps is first evaluated after them. Nothing of this changes a run: its losses are the same to the
bit whatever is kept.
"""

import contextlib
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from flops_fit.claims import Hold
from flops_fit.distributed import World
from flops_fit.files import replace_large_file
from flops_fit.records import Experiment
from flops_fit.tasks import Task
from flops_fit.training.evaluation import held_out_loss
from flops_fit.training.settings import TrainSettings
from flops_fit.training.weight_average import WeightAverage

# Evaluations of a run whose best weights are kept, the last of them its final loss.
EVALUATIONS = 10

EvaluationCallback = Callable[[int, float, nn.Module], None]
"""Called by the main process after each of them but the last: with steps done, held-out loss, and the model (averaged
where the recipe says so). It must not draw from the global generators. Steps repeated after a resume come again."""


class BestSoFar:
    """The weights of the lowest held-out loss during a run, kept beside its checkpoints until it ends."""

    def __init__(
        self,
        task: Task,
        experiment: Experiment,
        run_dir: Path,
        world: World,
        settings: TrainSettings,
        notify: EvaluationCallback | None = None,
        hold: Hold | None = None,
    ) -> None:
        self._task, self._experiment, self._world, self._settings = task, experiment, world, settings
        self._notify, self._hold = notify, hold
        self._path = candidate_path(run_dir)
        # Of an interrupted attempt; it may be from a step that is done again, and is then found again to the bit.
        self._loss: float = world.agree(saved_loss(self._path) if world.is_main else None)
        last = experiment.num_steps
        self._steps = {math.ceil(last * i / EVALUATIONS) for i in range(1, EVALUATIONS)} - {last}

    def look(
        self,
        step: int,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        average: WeightAverage | None,
        micro_batch: int | None,
    ) -> None:
        """Evaluates after ``step`` steps where it is time to, and saves the weights if they are the best so far.

        Args:
            step: Steps done.
            model: Not wrapped; all processes call this.
            parameters: What the average is of.
            average: Of the weights, where the recipe asks for one.
            micro_batch: As in `held_out_loss`.
        """
        if step not in self._steps:
            return
        with _same_random_numbers(self._world.device), _averaged(model, parameters, average):
            loss, _ = held_out_loss(
                self._task, model, self._world, self._settings.eval_samples, micro_batch, hold=self._hold
            )
            if self._notify is not None and self._world.is_main:
                self._notify(step, loss, model)
            if not loss < self._loss:
                return
            self._loss = loss
            tensors = whole_tensors(model)
            if self._world.is_main:
                _save(self._path, tensors, self._experiment, step=step, loss=loss)


def save_weights(
    model: nn.Module, experiment: Experiment, run_dir: Path, loss: float, *, world: World, settings: TrainSettings
) -> dict[str, str]:
    """Saves what is to be kept of a run that has completed; before its result is published.

    Args:
        model: As it was evaluated at the end; all processes call this.
        experiment: The run.
        run_dir: Its folder in the sweep's.
        loss: Held-out, at the end.
        world: The main process writes.
        settings: Say what to keep.

    Returns:
        The files by kind, relative to the sweep's folder (see `RunResult.weights`).

    Raises:
        StoreError: If the disk refuses.
    """
    kept = {kind: run_dir / f"{kind}_model.safetensors" for kind in settings.kept_kinds}
    if kept:
        tensors = whole_tensors(model)
        if world.is_main:
            candidate = candidate_path(run_dir)
            for kind, path in kept.items():
                if kind == "best" and saved_loss(candidate) < loss:
                    replace_large_file(path, lambda aside: os.link(candidate, aside))
                else:
                    _save(path, tensors, experiment, step=experiment.num_steps, loss=loss)
    return {kind: str(path.relative_to(run_dir.parent.parent)) for kind, path in kept.items()}


def candidate_path(run_dir: Path) -> Path:
    """Returns where the best weights of a run are until it ends."""
    return run_dir / "checkpoints" / "best_so_far.safetensors"


def saved_loss(path: Path) -> float:
    """Returns the held-out loss of saved weights; infinity where there are none."""
    if not path.exists():
        return math.inf
    with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
        return float(file.metadata()["held_out_loss"])


def whole_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies a model's state to the host, whole; of a sharded model every process must call it."""
    state = {
        name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in model.state_dict().items()
    }
    # Copies of their own memory: safetensors refuses shared (tied) and strided tensors.
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _save(path: Path, tensors: dict[str, torch.Tensor], experiment: Experiment, *, step: int, loss: float) -> None:
    metadata = {
        "experiment_id": experiment.experiment_id,
        "size": str(experiment.size_param_value),
        "num_params": str(experiment.num_params),
        "step": str(step),
        "tokens_seen": str(experiment.tokens_after(step)),
        "held_out_loss": repr(loss),
        "ema_decay": str(experiment.recipe.ema_decay),
    }
    replace_large_file(path, lambda aside: save_file(tensors, aside, metadata))


@contextlib.contextmanager
def _averaged(model: nn.Module, parameters: Sequence[nn.Parameter], average: WeightAverage | None) -> Iterator[None]:
    """Within this the average stands where the weights were."""
    if average is None:
        yield
        return
    before = [p.detach().clone() for p in parameters]
    average.replace_weights()
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
        # After a forward pass FSDP leaves the outermost module whole, and would go on with the averages there.
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


@contextlib.contextmanager
def _same_random_numbers(device: torch.device) -> Iterator[None]:
    """Puts the generators back as they were: a model or its data may draw in an evaluation."""
    python, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
