"""The training loop: one run from its first token to its last, readable from top to bottom.

A step is a list of sample ids computed from (seed, step). Processes, micro-batches and accumulation only share
them out, and the loss is a sum over the step's targets divided by their number, so none of these changes the result
beyond rounding. Dropout masks are keyed by (seed, step, process): they change with the number of processes.
"""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_map

from flops_fit.data.sources import SampleSource
from flops_fit.errors import Diverged
from flops_fit.launching import World
from flops_fit.records import Experiment
from flops_fit.tasks import Task, compute_loss, count_targets, create_model
from flops_fit.training.checkpoints import load_checkpoint, save_checkpoint
from flops_fit.training.metrics import MetricsLog
from flops_fit.training.optimizers import choose_precision, make_optimizer
from flops_fit.training.order import sample_ids
from flops_fit.training.schedules import learning_rate
from flops_fit.training.settings import TrainSettings

# Steps whose sample ids are computed at once.
BLOCK = 256
# A mean loss this many times the first one is not training any more.
EXPLODED = 10.0


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model and what it took."""

    model: nn.Module
    tokens_seen: int
    steps: int
    train_loss: float | None
    """Mean over the last tenth of the steps."""
    precision: str


def train_model(
    task: Task,
    experiment: Experiment,
    run_dir: Path,
    *,
    world: World,
    settings: TrainSettings,
    micro_batch: int | None,
) -> Trained:
    """Trains one model on exactly its planned tokens, from its newest checkpoint if there is one.

    Args:
        task: Model, data and loss.
        experiment: The run.
        run_dir: For metrics and checkpoints; the main process writes them.
        world: The processes that take part; all of them call this.
        settings: Of the engine.
        micro_batch: Samples per forward pass; None for a process' whole share of a step.

    Raises:
        Diverged: If the loss is not finite or has exploded; on every process alike.
        DataExhausted: If a stream ends too early.
    """
    assert task.train_data is not None
    recipe, unit = experiment.recipe, experiment.tokens_per_sample
    torch.manual_seed(experiment.seed)
    bare = create_model(task, experiment.size_param_value).to(world.device)
    bare.train()
    model = world.prepare(bare)
    parameters = [p for p in bare.parameters() if p.requires_grad]
    optimizer = make_optimizer(bare, recipe)
    state = load_checkpoint(run_dir / "checkpoints", bare, optimizer) or {"step": 0, "train_losses": []}
    losses: list[float] = list(state["train_losses"])
    precision = choose_precision(settings.precision, world.device, experiment.num_params)
    total_samples, batch_samples = experiment.num_tokens // unit, recipe.batch_tokens // unit
    steps, saved_at = math.ceil(total_samples / batch_samples), time.monotonic()

    with MetricsLog(run_dir / "metrics.jsonl", first_step=state["step"], active=world.is_main) as log:
        block = np.empty(0, dtype=np.int64)
        for step in range(state["step"], steps):
            rate = learning_rate(recipe, step * recipe.batch_tokens, experiment.num_tokens)
            for group in optimizer.param_groups:
                group["lr"] = rate
            first = step * batch_samples
            count = min(batch_samples, total_samples - first)
            if len(block) < count:
                block = sample_ids(experiment.seed, first, BLOCK * batch_samples, task.train_data.num_samples)
            ids, block = block[:count], block[count:]
            _seed_step(experiment.seed, step, world)
            loss = _accumulate(task, model, list(_batches(task.train_data, ids, world, micro_batch)), world, precision)
            if recipe.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(_checked(float(world.sum(loss)), losses, step))
            log.write(
                step, loss=losses[-1], learning_rate=rate, tokens=(first + count) * unit, every=settings.log_every
            )
            if world.agree(time.monotonic() - saved_at > settings.checkpoint_seconds) and step + 1 < steps:
                if world.is_main:
                    save_checkpoint(
                        run_dir / "checkpoints", step + 1, bare, optimizer, {"train_losses": losses},
                        keep=settings.keep_checkpoints,
                    )  # fmt: skip
                saved_at = time.monotonic()
    return Trained(
        model=bare,
        tokens_seen=total_samples * unit,
        steps=steps,
        train_loss=float(np.mean(losses[-max(1, len(losses) // 10) :])) if losses else None,
        precision=precision,
    )


def _accumulate(
    task: Task, model: nn.Module, batches: list[tuple[Any, int]], world: World, precision: str
) -> torch.Tensor:
    """Runs forward and backward over this process' share of a step; returns its part of the step's mean loss."""
    targets = torch.tensor(float(sum(n for _, n in batches)), device=world.device)
    total = float(world.sum(targets)) or 1.0
    loss_sum = torch.zeros((), device=world.device)
    for i, (batch, count) in enumerate(batches):
        last = i == len(batches) - 1
        waits: AbstractContextManager[Any] = nullcontext() if last or world.size == 1 else model.no_sync()  # type: ignore[operator]
        with waits:
            with torch.autocast(world.device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = compute_loss(task, model, _moved(batch, world.device))
            part = loss * (count / total)
            # Distributed data parallel averages gradients over processes; a sum is wanted.
            (part * world.size if world.size > 1 else part).backward()  # type: ignore[no-untyped-call]
        loss_sum += part.detach()
    return loss_sum


def _batches(
    data: SampleSource, ids: NDArray[np.int64], world: World, micro_batch: int | None
) -> Iterator[tuple[Any, int]]:
    """Yields this process' micro-batches of a step, each with the number of its targets."""
    mine = np.array_split(ids, world.size)[world.rank]
    if len(mine) == 0:
        # The last step can be shorter than the world; a process without samples still takes part, with weight 0.
        yield data.batch(ids[:1]), 0
        return
    size = micro_batch or len(mine)
    for start in range(0, len(mine), size):
        batch = data.batch(mine[start : start + size])
        yield batch, count_targets(batch)


def _moved(batch: Any, device: torch.device) -> Any:
    if device.type == "cpu":
        return batch
    return tree_map(lambda x: x.to(device, non_blocking=True) if isinstance(x, torch.Tensor) else x, batch)


def _checked(loss: float, losses: list[float], step: int) -> float:
    if not math.isfinite(loss):
        raise Diverged(f"the training loss was {loss} at step {step}.")
    if losses and loss > EXPLODED * max(losses[0], 1e-6):
        raise Diverged(
            f"the training loss was {loss:.4g} at step {step}, {EXPLODED:g} times the first ({losses[0]:.4g})."
        )
    return loss


def _seed_step(seed: int, step: int, world: World) -> None:
    """Seeds what the forward pass draws from; `torch.manual_seed` would format a stack trace for each step."""
    value = (seed * 1_000_003 + step * 8_191 + world.rank + 1) & 0x7FFFFFFFFFFFFFFF
    torch.default_generator.manual_seed(value)
    if world.device.type == "cuda":
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(value)
