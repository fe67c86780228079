"""Forward and backward over one step, on one process or on this one's share of it."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from flops_fit.distributed import World
from flops_fit.tasks import Task, compute_loss
from flops_fit.training.engine.precision import precision_context
from flops_fit.training.engine.probe import EngineChoice
from flops_fit.training.feeding import MicroBatches, moved
from flops_fit.training.weight_average import WeightAverage


@dataclass(kw_only=True)
class Run:
    """What changes from step to step."""

    bare: nn.Module
    model: nn.Module
    """The bare one as it is called: compiled, wrapped."""
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None = None
    has_buffers: bool = False
    step: int = 0
    """Steps done."""
    steps_from_trunk: int = 0
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each step that has been looked at."""
    waiting: list[torch.Tensor] = field(default_factory=list)
    """This process' part of the losses since then, on the device."""


def accumulate_alone(
    task: Task, run: Run, batches: Iterator[MicroBatches], world: World, choice: EngineChoice
) -> float:
    """Runs forward and backward over a step; returns 1, since the gradients are those of its mean loss."""
    step = next(batches)
    total = sum(count for _, count in step) or 1
    loss_sum: torch.Tensor | float = 0.0
    for batch, count in step:
        loss = _forward(task, run, batch, world, choice)
        part = loss if count == total else loss * (count / total)
        run.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        loss_sum = loss_sum + part.detach()
    assert isinstance(loss_sum, torch.Tensor)
    run.waiting.append(loss_sum.float())
    return 1.0


def accumulate_together(
    task: Task,
    run: Run,
    batches: Iterator[MicroBatches],
    world: World,
    choice: EngineChoice,
    *,
    careful: bool,
    is_due: bool,
) -> tuple[float, bool]:
    """Runs this process' share of a step; what raises on one process ends the run on all.

    Once the data are there, the processes of a sharded model wait for each other in every layer, those with a copy each
    only in the last backward pass. What only some raise there cannot be told to the others, and ends them all.

    Returns:
        The factor that makes the summed gradients those of the step's mean loss, and whether all are to save.
    """
    counted: float = 0
    problem = None
    try:
        step = next(batches)
        counted = sum(count for _, count in step)
        if not world.is_sharded:
            loss_sum, last = _accumulate(task, run, step, world, choice, careful)
    except Exception as error:
        problem = error
    total, is_due = world.exchange(counted, is_due, problem)
    total = total or 1.0
    with world.waiting():
        if world.is_sharded:
            loss_sum, last = _accumulate(task, run, step, world, choice, careful)
        run.waiting.append(loss_sum / total)
        world.copy_from_main(run.bare.buffers() if run.has_buffers else ())
        if not careful:
            # This backward pass adds gradients up over the processes, and takes their mean.
            run.scaler.scale(last).backward()  # type: ignore[no-untyped-call]
            return world.size / total, is_due
        for parameter in run.parameters:
            if parameter.grad is not None:
                world.sum(parameter.grad)
    return 1 / total, is_due


def _accumulate(
    task: Task, run: Run, step: MicroBatches, world: World, choice: EngineChoice, careful: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the sum of the losses, and the last one, whose backward pass is still to come if not careful."""
    part, loss_sum = torch.zeros(()), torch.zeros((), device=world.device)
    for i, (batch, count) in enumerate(step):
        is_shared = i == len(step) - 1 and not careful
        with nullcontext() if is_shared else world.no_sync(run.model):
            part = _forward(task, run, batch, world, choice) * count
            if not is_shared:
                run.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        loss_sum += part.detach()
    return loss_sum, part


def _forward(task: Task, run: Run, batch: Any, world: World, choice: EngineChoice) -> torch.Tensor:
    if choice.compiled and world.device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
    # A shape seen once, such as that of the last step, is not worth a second compilation.
    stance = torch.compiler.set_stance("eager_on_recompile") if choice.compiled and run.step > 0 else nullcontext()
    with stance, precision_context(choice.precision, choice.plain_attention, world.device):
        loss = compute_loss(task, run.model, moved(batch, world.device))
    # A graph writes its next output to the same memory.
    return loss.clone() if choice.compiled else loss
