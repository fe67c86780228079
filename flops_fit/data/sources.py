"""Where do training and held-out samples come from?

The engine asks for samples by number, so that order, world size and resume are its own affair.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class SampleSource(Protocol):
    """Numbered samples of equal length."""

    @property
    def tokens_per_sample(self) -> int:
        """Tokens (or images, ...) that one sample counts for in D."""

    @property
    def num_samples(self) -> int | None:
        """How many distinct samples there are; None for a stream of unknown length."""

    @property
    def fingerprint(self) -> str:
        """Identifies the content: equal data, equal fingerprint."""

    def batch(self, ids: NDArray[np.int64]) -> Any:
        """Collates the samples ``ids`` (shape (b,)) into one CPU batch, ``(inputs, targets)`` or a mapping."""
