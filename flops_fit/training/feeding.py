"""Which batches does this process see at each step?"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_map

from flops_fit.records import Experiment
from flops_fit.tasks import Task, count_targets
from flops_fit.training.order import sample_ids

# Steps whose sample ids are computed at once.
BLOCK = 256
# Steps that are loaded ahead of a GPU.
AHEAD = 2

T = TypeVar("T")
MicroBatches = list[tuple[Any, float]]


def step_batches(
    task: Task, experiment: Experiment, first_step: int, *, rank: int, size: int, micro_batch: int | None
) -> Iterator[MicroBatches]:
    """Yields one process' micro-batches of each step, each with the number of its targets.

    Args:
        task: The training samples, and which of their targets count.
        experiment: Says how many samples a step and the run have, and their seed.
        first_step: Where to begin.
        rank: Of this process.
        size: How many processes share each step.
        micro_batch: Samples per micro-batch; None for the whole share.
    """
    assert task.train_data is not None
    num_samples = task.train_data.num_samples
    total = experiment.num_tokens // experiment.tokens_per_sample
    batch = experiment.recipe.batch_tokens // experiment.tokens_per_sample
    block = np.empty(0, dtype=np.int64)
    for first in range(first_step * batch, total, batch):
        count = min(batch, total - first)
        if len(block) < count:
            block = sample_ids(experiment.seed, first, BLOCK * batch, num_samples)
        ids, block = block[:count], block[count:]
        yield _share(task, ids, rank, size, micro_batch)


def prefetched(items: Iterator[T], prepare: Callable[[T], T], ahead: int = AHEAD) -> Iterator[T]:
    """Takes items ahead of their use, in order, in one thread; an error comes out where its item would have."""
    end = object()

    def take() -> Any:
        item = next(items, end)
        return item if item is end else prepare(item)  # type: ignore[arg-type]

    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(take) for _ in range(ahead))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(take))
            yield item


def pinned(batches: MicroBatches) -> MicroBatches:
    """Puts a step into page-locked memory, from where a GPU copies it without waiting."""
    return [(tree_map(lambda x: x.pin_memory() if isinstance(x, torch.Tensor) else x, b), n) for b, n in batches]


def moved(batch: Any, device: torch.device) -> Any:
    """Copies a batch to the device."""
    if device.type == "cpu":
        return batch
    return tree_map(lambda x: x.to(device, non_blocking=True) if isinstance(x, torch.Tensor) else x, batch)


def _share(task: Task, ids: NDArray[np.int64], rank: int, size: int, micro_batch: int | None) -> MicroBatches:
    data = task.train_data
    assert data is not None
    shares = np.array_split(ids, size)
    length = micro_batch or len(shares[0])
    starts = range(0, len(shares[0]), length)
    parts = [part for start in starts if len(part := shares[rank][start : start + length])]
    batches = [(batch, count_targets(task, batch)) for batch in map(data.batch, parts)]
    while len(batches) < len(starts):
        # The last step can be too short for all; a process without samples still takes part, with weight 0.
        batches.append((data.batch(ids[:1]), 0))
    return batches
