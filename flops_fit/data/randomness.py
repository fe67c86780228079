"""Randomness of a data set: draws from the global generators are seeded for each sample, and leave no trace.

A data set that augments draws from `random`, numpy or torch in its ``__getitem__``. Without seeds the samples of a run
would depend on what ran before it, and with the seeds of a step on how a step is split.
"""

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")

_current: ContextVar["Draws | None"] = ContextVar("draws", default=None)


class Draws:
    """Seeds each sample from (seed, position); stops where the first samples draw nothing."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._positions: Iterator[int] = iter(())
        self._is_settled = False
        self.is_random = False
        """Whether a sample has drawn from a global generator."""

    @contextlib.contextmanager
    def at(self, positions: Iterable[int]) -> Iterator[None]:
        """Within this, `drawn` seeds samples; those without a position of their own are at ``positions``, in order."""
        self._positions = iter(positions)
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def settle(self) -> None:
        """Ends the search: if no sample has drawn anything until now, later ones are not seeded."""
        self._is_settled = True

    @property
    def is_seeding(self) -> bool:
        """Whether samples are to be taken one by one, each with its seed."""
        return self.is_random or not self._is_settled

    def take(self, sample: Callable[[], T], position: int | None) -> T:
        """Returns ``sample()``, seeded; the global generators are left as they were."""
        if not self.is_seeding:
            return sample()
        if position is None:
            position = next(self._positions)
        before = _states()
        _seed(self.seed, position)
        seeded = None if self.is_random else _states()
        try:
            return sample()
        finally:
            if seeded is not None:
                self.is_random = not _equal(seeded, _states())
            _restore(before)


def drawn(sample: Callable[[], T], position: int | None = None) -> T:
    """Returns ``sample()``, seeded where a run asks for it (`Draws.at`).

    Args:
        sample: Takes one sample from a data set.
        position: Of the sample in the run, where the source knows it; None for the next of `Draws.at`.
    """
    current = _current.get()
    return sample() if current is None else current.take(sample, position)


def is_seeding() -> bool:
    """Says whether samples must be taken one by one here, through `drawn`."""
    current = _current.get()
    return current is not None and current.is_seeding


def _seed(seed: int, position: int) -> None:
    # Odd constants of 64 bits; neighbours in either argument share no seed.
    value = (seed * 0x9E3779B97F4A7C15 + position * 0xBF58476D1CE4E5B9 + 1) & 0x7FFFFFFFFFFFFFFF
    random.seed(value)
    np.random.seed(value >> 31)
    torch.default_generator.manual_seed(value)


def _states() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore(states: tuple[Any, Any, torch.Tensor]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def _equal(a: tuple[Any, Any, torch.Tensor], b: tuple[Any, Any, torch.Tensor]) -> bool:
    numpy_equal = all(np.array_equal(x, y) for x, y in zip(a[1], b[1], strict=True))
    return a[0] == b[0] and numpy_equal and torch.equal(a[2], b[2])
