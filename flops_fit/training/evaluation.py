"""What is the loss on data that no run trains on?"""

import math

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from flops_fit.launching import World
from flops_fit.tasks import Task, compute_loss, count_targets

CHUNK = 32
STREAM_SAMPLES = 1024


def held_out_loss(task: Task, model: nn.Module, world: World, max_samples: int) -> tuple[float, float | None]:
    """Returns the mean held-out loss per target, and the standard error of that mean over chunks of samples.

    The same samples in the same chunks for any number of processes; each process takes every n-th chunk.
    """
    data = task.eval_data
    assert data is not None
    total = min(STREAM_SAMPLES if data.num_samples is None else data.num_samples, max_samples)
    spacing = 1 if data.num_samples is None else data.num_samples / total
    ids = (np.arange(total) * spacing).astype(np.int64)
    # A chunk is at least a hundredth of the samples, so that the error is of many chunks but cheap.
    chunks = np.array_split(ids, math.ceil(total / CHUNK))
    sums = torch.zeros(len(chunks), 2, dtype=torch.float64)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for j in range(world.rank, len(chunks), world.size):
            batch = data.batch(chunks[j])
            count = count_targets(batch)
            moved = tree_map(lambda x: x.to(world.device) if isinstance(x, torch.Tensor) else x, batch)
            sums[j, 0] = compute_loss(task, model, moved).double().cpu() * count
            sums[j, 1] = count
    model.train(was_training)
    losses, counts = world.sum(sums.to(world.device) if world.device.type != "cpu" else sums).cpu().unbind(1)
    mean = float(losses.sum() / counts.sum())
    if len(chunks) < 2:
        return mean, None
    deviations = losses / counts - mean
    return mean, float((deviations**2).mean().sqrt() / math.sqrt(len(chunks) - 1))
