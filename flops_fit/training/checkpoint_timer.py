"""The time between two checkpoints, tied to what one costs."""

import contextlib
import time
from collections.abc import Iterator, Sequence

import torch

# For the first checkpoint, before one is measured: written, hashed and synced.
SAVED_BYTES_PER_SECOND = 5e8
# Training time per time of saving: 2 %.
MAX_COST = 50


class CheckpointTimer:
    """Says when a checkpoint is due: not before ``seconds``, nor so often that saving takes over 2 % of the time."""

    def __init__(self, seconds: float, parameters: Sequence[torch.Tensor]) -> None:
        """Assumes a cost for the first checkpoint: weights and two moments, written at SAVED_BYTES_PER_SECOND."""
        self._seconds = seconds
        self._cost = 3 * sum(p.nbytes for p in parameters) / SAVED_BYTES_PER_SECOND
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Asked after each step; 0 seconds are taken literally, whatever it costs."""
        interval = max(self._seconds, MAX_COST * self._cost) if self._seconds else 0.0
        return time.monotonic() - self._saved_at > interval

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Within this a checkpoint is saved."""
        started = time.monotonic()
        yield
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - started
