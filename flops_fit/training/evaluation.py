"""The held-out loss: the loss of a trained model on data that no run trains on."""

import math
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flops_fit.claims import Hold
from flops_fit.data.randomness import Draws
from flops_fit.data.sources import SampleSource
from flops_fit.distributed import World
from flops_fit.errors import ModelFailed
from flops_fit.tasks import Task, compute_loss, count_targets
from flops_fit.training.feeding import moved
from flops_fit.training.interruption import stop_run_if_requested

CHUNK = 32
STREAM_SAMPLES = 1024


def held_out_loss(
    task: Task,
    model: nn.Module,
    world: World,
    max_samples: int,
    micro_batch: int | None = None,
    *,
    hold: Hold | None = None,
) -> tuple[float, float | None]:
    """Returns the mean held-out loss per target, and the standard error of that mean over chunks of samples.

    The same samples in the same chunks for any number of processes; each process takes every n-th chunk. Computed
    in float32, whatever the model was trained in.

    Args:
        task: Data and loss.
        model: Trained.
        world: All processes call this.
        max_samples: Evenly spaced over the held-out data, if it has more.
        micro_batch: Samples to begin with that fit into memory at once, halved where they do not; None for any number.
        hold: Of the attempt, which notes progress and may end the evaluation.

    Raises:
        Superseded: If another worker has taken over the run.
        Interrupted: If a signal asked a process to stop.
    """
    data = task.eval_data
    assert data is not None
    total = held_out_samples(data, max_samples)
    spacing = 1 if data.num_samples is None else data.num_samples / total
    ids = (np.arange(total) * spacing).astype(np.int64)
    chunks = np.array_split(ids, math.ceil(total / CHUNK))
    hold = hold or Hold()
    sums = _within_memory(task, model, world, chunks, min(CHUNK, micro_batch or CHUNK), hold)
    hold.look()
    stop_run_if_requested(hold, world)
    losses, counts = world.sum(sums.to(world.device)).cpu().unbind(1)
    if not counts.any():
        raise ModelFailed(
            f"held-out data: got no target that counts in {total} samples (all are ignored), expected some. "
            "Give another eval_dataset."
        )
    mean = float(losses.sum() / counts.sum())
    chunk_means = (losses / counts)[counts > 0]
    if len(chunk_means) < 2:
        return mean, None
    return mean, float(((chunk_means - mean) ** 2).mean().sqrt() / math.sqrt(len(chunk_means) - 1))


def held_out_samples(data: SampleSource, max_samples: int) -> int:
    """Counts the samples that `held_out_loss` looks at."""
    return min(STREAM_SAMPLES if data.num_samples is None else data.num_samples, max_samples)


def _within_memory(
    task: Task, model: nn.Module, world: World, chunks: list[NDArray[np.int64]], size: int, hold: Hold
) -> torch.Tensor:
    while True:
        try:
            act = partial(_chunk_sums, task, model, world, chunks, size, hold)
            return world.together(act, what="the held-out loss", waiting=world.is_sharded)
        except torch.OutOfMemoryError:
            # Raised on every process alike.
            if size == 1:
                raise
            size //= 2


def _chunk_sums(
    task: Task, model: nn.Module, world: World, chunks: list[NDArray[np.int64]], size: int, hold: Hold
) -> torch.Tensor:
    """Sum of losses and number of targets of each of this process' chunks, zero for the others; shape (n, 2).

    A process that must stop leaves its share unfinished, except where the others cannot run the model without it.
    """
    assert task.eval_data is not None
    pieces = [
        [
            (j, chunks[j][i : i + size])
            for j in range(rank, len(chunks), world.size)
            for i in range(0, len(chunks[j]), size)
        ]
        for rank in range(world.size)
    ]
    sums = torch.zeros(len(chunks), 2, dtype=torch.float64)
    was_training, draws = model.training, Draws(0)
    model.eval()
    with torch.no_grad():
        for turn in range(max(map(len, pieces))):
            mine = pieces[world.rank]
            # A process that is through goes on with weight zero: the others cannot run a sharded model without it.
            j, ids = mine[turn] if turn < len(mine) else (0, chunks[0][:1])
            with draws.at(ids.tolist()):
                batch = task.eval_data.batch(ids)
            count = count_targets(task, batch)
            loss = compute_loss(task, model, moved(batch, world.device))
            if turn < len(mine) and count:  # The mean over no targets is 0/0.
                sums[j] += torch.tensor([float(loss) * count, count])
            draws.settle()
            hold.tick()
            if hold.must_stop and not world.is_sharded:
                break
    model.train(was_training)
    return sums
