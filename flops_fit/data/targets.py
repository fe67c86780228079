"""Targets per sample: what D counts, measured over a seeded sample of the data as it is collated for training."""

import contextlib
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_leaves

from flops_fit.errors import ContractError

if TYPE_CHECKING:
    from flops_fit.data.sources import SampleSource

IGNORE_INDEX = -100
# Samples that are looked at: so many, or more until the mean is known to 1 %, up to the second number.
FIRST_SAMPLES = 256
MAX_SAMPLES = 2048
STD_ERROR = 0.01
# D is whole tokens per sample times samples; a mean that is further from a whole number would bias D by more.
MAX_ROUNDING = 0.025


@dataclass(frozen=True, kw_only=True)
class TargetCounts:
    """Targets per sample, and the shapes that samples are collated to."""

    counts: NDArray[np.int64]
    shapes: frozenset[tuple[tuple[int, ...], ...]]
    """Of all tensors in a batch of one sample; one element where all samples are alike."""
    lowest: int | None
    """Least integer target that counts; None where targets are no integers."""
    highest: int | None

    @property
    def mean(self) -> float:
        """Targets per sample."""
        return float(self.counts.mean())

    @property
    def tokens_per_sample(self) -> int:
        """The mean as a whole number, at least 1."""
        return max(1, round(self.mean))


def targets_of(batch: Any) -> Any:
    """Returns what the loss of a batch is computed against: its ``labels``, its ``input_ids``, or its second part."""
    if isinstance(batch, Mapping):
        known = (batch[key] for key in ("labels", "input_ids") if key in batch)
        return next(known, next(iter(batch.values()), None))
    return batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None


def measure_targets(source: "SampleSource", ignore_index: int = IGNORE_INDEX) -> TargetCounts:
    """Counts the targets of samples spread over the data, each collated alone.

    Integer targets in a row (one sequence per sample) count one by one, except those equal to ``ignore_index``; a
    class, a vector of numbers or an image of classes counts as one.

    Raises:
        ContractError: If a sample cannot be collated.
    """
    counts: list[int] = []
    shapes: set[tuple[tuple[int, ...], ...]] = set()
    lowest: int | None = None
    highest: int | None = None
    with seeded(0):
        for batch in _single_batches(source):
            targets = targets_of(batch)
            counts.append(_count(targets, ignore_index))
            shapes.add(tuple(tuple(x.shape) for x in tree_leaves(batch) if isinstance(x, torch.Tensor)))
            if is_integer(targets) and (classes := targets[targets != ignore_index]).numel():
                low, high = int(classes.min()), int(classes.max())
                lowest = low if lowest is None else min(lowest, low)
                highest = high if highest is None else max(highest, high)
            if len(counts) >= FIRST_SAMPLES and (len(shapes) > 1 or _is_known(counts)):
                break
    return TargetCounts(counts=np.array(counts), shapes=frozenset(shapes), lowest=lowest, highest=highest)


def check_targets(found: TargetCounts, ignore_index: int = IGNORE_INDEX) -> None:
    """Refuses data whose tokens or FLOPs a plan cannot count.

    Raises:
        ContractError: If samples are collated to tensors of several shapes, if none of them has a target, or if the
            mean number of targets is too small to be rounded.
    """
    low, high = int(found.counts.min()), int(found.counts.max())
    mask = f"mask the padding with {ignore_index} in the targets"
    if len(found.shapes) > 1:
        examples = " and ".join(str(list(map(list, s))) for s in sorted(found.shapes)[:: max(1, len(found.shapes) - 1)])
        spread = f"{low} to {high} targets, tensors of shapes such as" if low < high else "tensors of shapes such as"
        raise ContractError(
            f"dataset: {len(found.counts)} sampled samples have {spread} {examples}; expected one shape for all, since "
            f"the tokens and FLOPs of a step must not depend on the samples in it. Pack sequences into samples of one "
            f"length, or pad every sample to one length and {mask}; resize images to one size."
        )
    if high == 0:
        raise ContractError(
            f"dataset: all targets of {len(found.counts)} sampled samples are {ignore_index}, which the loss ignores; "
            "expected targets that count."
        )
    if abs(found.mean - found.tokens_per_sample) > MAX_ROUNDING * found.mean:
        raise ContractError(
            f"dataset: samples have {found.mean:.3g} targets on average ({low} to {high}), too few to round to whole "
            f"tokens per sample within {MAX_ROUNDING:.1%}. Pack several into one sample, or leave out samples "
            "without targets."
        )


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the generators that data sets draw from (torch, numpy, random), and puts them back afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def is_integer(targets: Any) -> bool:
    """Whether targets are a tensor of integers: classes or tokens."""
    return isinstance(targets, torch.Tensor) and not (targets.is_floating_point() or targets.is_complex())


def _single_batches(source: "SampleSource") -> Iterator[Any]:
    if source.num_samples is None:
        yield from source.first_batches(FIRST_SAMPLES)  # type: ignore[attr-defined]
        return
    rng, size = np.random.default_rng(0), min(MAX_SAMPLES, source.num_samples)
    for i in rng.choice(source.num_samples, size, replace=False):
        yield source.batch(np.array([i], dtype=np.int64))


def _is_known(counts: list[int]) -> bool:
    spread = np.std(counts) / math.sqrt(len(counts))
    return bool(spread <= STD_ERROR * np.mean(counts))


def _count(targets: Any, ignore_index: int) -> int:
    if not is_integer(targets) or targets.ndim > 2:
        return 1
    return int((targets != ignore_index).sum())
