"""Batches: what one process sees at each step, in which pieces, and taken by which thread."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, tee
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from flops_fit.data.randomness import Draws
from flops_fit.data.reading import read_pieces
from flops_fit.data.sources import SampleSource
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
    task: Task,
    experiment: Experiment,
    first_step: int,
    *,
    rank: int,
    size: int,
    micro_batch: int | None,
    needs_two: bool = False,
    draws: Draws | None = None,
) -> Iterator[MicroBatches]:
    """Yields one process' micro-batches of each step, each with the weight of its mean loss: the number of targets.

    Args:
        task: Has the training samples.
        experiment: Says how many samples a step and the run have, and their seed.
        first_step: Where to begin.
        rank: Of this process.
        size: How many processes share each step.
        micro_batch: Most samples in a micro-batch; None for the whole share.
        needs_two: Whether the model cannot train on one sample (`needs_two_samples`).
        draws: Seeds what the data set draws at random; made anew where none is given.
    """
    assert task.train_data is not None
    draws = draws or Draws(experiment.seed)
    # Worker processes read ahead of the loop.
    ahead, steps = tee(_steps(task.train_data, experiment, first_step, rank, size, micro_batch, needs_two))
    batches = read_pieces(task.train_data, ((ids, at) for step in ahead for ids, at, _ in step), draws)
    for step in steps:
        taken = []
        for ids, _, is_own in step:
            batch = next(batches)
            weight = float(count_targets(task, batch)) if is_own else 0.0
            taken.append((_doubled(batch) if needs_two and len(ids) == 1 else batch, weight))
        draws.settle()
        yield taken


def _steps(
    data: SampleSource,
    experiment: Experiment,
    first_step: int,
    rank: int,
    size: int,
    micro_batch: int | None,
    needs_two: bool,
) -> Iterator[list[tuple[NDArray[np.int64], range, bool]]]:
    """Yields the pieces of each step: ids of samples, their positions in the run, and whether they are our own."""
    total = experiment.num_tokens // experiment.tokens_per_sample
    batch = experiment.recipe.batch_tokens // experiment.tokens_per_sample
    block = np.empty(0, dtype=np.int64)
    for first in range(first_step * batch, total, batch):
        count = min(batch, total - first)
        if len(block) < count:
            block = sample_ids(experiment.seed, first, BLOCK * batch, data.num_samples)
        ids, block = block[:count], block[count:]
        yield [
            (ids[piece], range(first + piece.start, first + piece.stop), is_own)
            for piece, is_own in pieces(count, rank, size, micro_batch, needs_two=needs_two)
        ]


def pieces(
    count: int, rank: int, size: int, micro_batch: int | None, *, needs_two: bool = False
) -> list[tuple[slice, bool]]:
    """Splits one process' share of ``count`` samples into micro-batches as equal as can be, as many on each process.

    Returns:
        Of each the samples, and whether they are this process' own. One that has none takes the first sample of the
        step, so that it takes part, and gives it the weight 0.
    """
    shares = _split(0, count, size)
    most, fewest = len(shares[0]), len(shares[-1]) or 1
    number = -(-most // (micro_batch or most))
    if needs_two:
        number = max(1, min(number, fewest // 2))
    parts = _split(shares[rank].start, len(shares[rank]), number)
    return [(slice(part.start, part.stop), True) if part else (slice(0, 1), False) for part in parts]


def _split(start: int, count: int, number: int) -> list[range]:
    """Cuts ``count`` numbers from ``start`` into ranges whose lengths differ by one at most, the longer ones first."""
    each, longer = divmod(count, number)
    ends = [start + each * i + min(i, longer) for i in range(number + 1)]
    return [range(first, last) for first, last in pairwise(ends)]


def needs_two_samples(model: nn.Module) -> bool:
    """Says whether a model cannot train on one sample: a BatchNorm takes statistics over samples."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


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


def _doubled(batch: Any) -> Any:
    """Takes the samples of a batch twice; a mean loss stays what it is."""
    return tree_map(lambda x: torch.cat([x, x]) if isinstance(x, torch.Tensor) and x.ndim else x, batch)
