"""Forward and backward over one step, on one process or on this one's share of it."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.utils._pytree import tree_leaves

from flops_fit.distributed import World
from flops_fit.errors import ModelFailed
from flops_fit.tasks import Task, compute_loss
from flops_fit.training.engine.precision import precision_context
from flops_fit.training.engine.probe import EngineChoice
from flops_fit.training.engine.replicas import Replicas
from flops_fit.training.feeding import MicroBatches, moved
from flops_fit.training.weight_average import WeightAverage


@dataclass(kw_only=True)
class Run:
    """What changes from step to step."""

    bare: nn.Module
    model: nn.Module
    """The bare one as it is called: compiled or not."""
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None = None
    replicas: Replicas | None = None
    """The copies of the model on several processes; None on one."""
    full_steps: int
    """Steps of the run that have all their samples: all of them, or all but the last."""
    step: int = 0
    """Steps done."""
    first_step: int = 0
    """Steps that were done when this process began."""
    steps_from_trunk: int = 0
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each step up to the last check."""
    waiting: list[torch.Tensor] = field(default_factory=list)
    """This process' share of the losses since then, on the device."""


@dataclass(frozen=True, kw_only=True)
class AfterStep:
    """What is to happen after a step: of one process before it is agreed, of all after that."""

    save: bool
    """A checkpoint, which the main process alone decides."""
    stop: bool
    """Stop the run."""
    superseded: bool
    """Another worker has taken over the run."""


def accumulate_alone(
    task: Task, run: Run, batches: Iterator[MicroBatches], world: World, choice: EngineChoice
) -> float:
    """Runs forward and backward over a step; returns 1, since the gradients are those of its mean loss."""
    step = next(batches)
    total = sum(count for _, count in step)
    _check_targets(total, run.step)
    loss_sum: torch.Tensor | float = 0.0
    for batch, count in step:
        part = _weighted_loss(task, run, batch, count / total, world, choice)
        if part.requires_grad:
            run.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        loss_sum = loss_sum + part.detach()
    assert isinstance(loss_sum, torch.Tensor)
    run.waiting.append(loss_sum.float())
    return 1.0


def accumulate_together(
    task: Task, run: Run, batches: Iterator[MicroBatches], world: World, choice: EngineChoice, then: AfterStep
) -> tuple[float, AfterStep]:
    """Runs this process' share of a step; what raises on one process ends the run on all.

    Copies of a model wait for each other only once their backward passes are done. The processes of a sharded model
    wait for each other in every layer: what only some raise there cannot be reported to the others, and ends them all.

    Returns:
        The factor that makes the summed gradients those of the step's mean loss, and what all agree to do after it.
    """
    assert run.replicas is not None
    counted, problem = 0.0, None
    try:
        step = next(batches)
        counted = sum(count for _, count in step)
        if not world.is_sharded:
            loss_sum = _accumulate(task, run, step, world, choice)
    except Exception as error:
        problem = error
    flags = (then.save and world.is_main, then.stop, then.superseded)
    found = (counted, run.replicas.missing(), run.replicas.newly_changed(), *flags)
    total, missing, changed, *agreed = world.exchange(found, problem, what=f"step {run.step}")
    _check_targets(total, run.step)
    with world.waiting():
        if world.is_sharded:
            loss_sum = _accumulate(task, run, step, world, choice)
        else:
            run.replicas.sum_gradients(some_missing=missing > 0)
        run.waiting.append(loss_sum / total)
        run.replicas.copy_buffers(some_new=changed > 0)
    # A sharded model's gradients are means over the processes.
    save, stop, superseded = (count > 0 for count in agreed)
    return (world.size if world.is_sharded else 1) / total, AfterStep(save=save, stop=stop, superseded=superseded)


def _check_targets(total: float, step: int) -> None:
    if not total:
        raise ModelFailed(
            f"step {step}: got no target that counts (all are ignored), expected at least one in each step. "
            "Give larger steps (sweep.batch_tokens), or leave such samples out of the data set."
        )


def _accumulate(task: Task, run: Run, step: MicroBatches, world: World, choice: EngineChoice) -> torch.Tensor:
    """Returns the sum of the losses over this process' targets; their gradients are added up, over it alone."""
    loss_sum = torch.zeros((), device=world.device)
    for i, (batch, count) in enumerate(step):
        if isinstance(run.model, FSDPModule):
            run.model.set_requires_gradient_sync(i == len(step) - 1)
        part = _weighted_loss(task, run, batch, count, world, choice)
        if part.requires_grad:
            run.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        loss_sum += part.detach()
    return loss_sum


def _weighted_loss(task: Task, run: Run, batch: Any, weight: float, world: World, choice: EngineChoice) -> torch.Tensor:
    """Runs a forward pass; returns its mean loss times ``weight``, exactly zero for weight zero.

    The mean over no targets is 0/0. A micro-batch without any still uses parameters, as it does within a larger one:
    they get gradients of zero, through the model's outputs.
    """
    if weight:
        loss = _forward(task, run, run.model, batch, world, choice)
        return loss if weight == 1 else loss * weight
    caught = _Caught(run.model)
    _forward(task, run, caught, batch, world, choice)
    return caught.zero(world.device)


class _Caught(nn.Module):
    """Calls a model and keeps the outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._call, self._outputs = model.__call__, None

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        self._outputs = self._call(*arguments, **keywords)
        return self._outputs

    def zero(self, device: torch.device) -> torch.Tensor:
        """Returns 0 as a function of the outputs, without those that are no numbers (such as a loss)."""
        total = torch.zeros((), device=device)
        outputs = self._outputs
        leaves = tree_leaves(dict(outputs) if isinstance(outputs, Mapping) else outputs)
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor) and leaf.requires_grad and bool(leaf.isfinite().all()):
                part = leaf * 0
                total = total + (part.abs() if part.is_complex() else part).sum().float()
        return total


def _forward(task: Task, run: Run, model: nn.Module, batch: Any, world: World, choice: EngineChoice) -> torch.Tensor:
    if choice.compiled and world.device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
    with _stance(run, choice), precision_context(choice.precision, choice.plain_attention, world.device):
        loss = compute_loss(task, model, moved(batch, world.device))
    # A graph writes its next output to the same memory.
    return loss.clone() if choice.compiled else loss


def _stance(run: Run, choice: EngineChoice) -> AbstractContextManager[object]:
    """Compiles in the first step of this process, and nothing later.

    The last step of a run, which can be shorter, is not compiled, whether or not it is the first one here: a resumed
    run must make each step as one that was never interrupted does.
    """
    if not choice.compiled:
        return nullcontext()
    if run.step == run.full_steps:
        stance = "force_eager"
    else:
        stance = "default" if run.step == run.first_step else "eager_on_recompile"
    return cast(AbstractContextManager[object], torch.compiler.set_stance(stance))
