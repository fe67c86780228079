"""Data order: the samples of a step, a pure function of (seed, step), the same for any number of processes."""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 4
_MIX = np.uint64(0x9E3779B97F4A7C15)


def sample_ids(seed: int, first: int, count: int, num_samples: int | None) -> NDArray[np.int64]:
    """Returns the ids of the samples at positions first..first+count-1 of a run, shape (count,).

    Each epoch is a permutation of all samples, keyed by (seed, epoch) and computed without a table.
    A stream (``num_samples`` None) is read in its own order.
    """
    positions = np.arange(first, first + count, dtype=np.int64)
    if num_samples is None:
        return positions
    ids = np.empty(count, dtype=np.int64)
    for epoch in np.unique(positions // num_samples):
        here = positions // num_samples == epoch
        ids[here] = _permute(positions[here] % num_samples, num_samples, _key(seed, int(epoch)))
    return ids


def _permute(values: NDArray[np.int64], n: int, key: int) -> NDArray[np.int64]:
    """A keyed bijection of 0..n-1: a Feistel network on the next power of four, walked until inside."""
    half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    out = values.astype(np.uint64)
    todo = np.ones(len(out), dtype=bool)
    while todo.any():
        out[todo] = _feistel(out[todo], half, key)
        todo &= out >= n
    return out.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: int, key: int) -> NDArray[np.uint64]:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = values >> shift, values & mask
    with np.errstate(over="ignore"):
        for round_number in range(ROUNDS):
            mixed = (right + np.uint64((key + round_number) & 0xFFFFFFFFFFFFFFFF)) * _MIX
            mixed ^= mixed >> np.uint64(29)
            mixed *= np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
    return (left << shift) | right


def _key(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed & 0xFFFFFFFF, epoch]).generate_state(1, np.uint64)[0])
