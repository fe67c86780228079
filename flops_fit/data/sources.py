"""The contract of a data source: samples by number, so that order, world size and resume are the engine's affair."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class SampleSource(Protocol):
    """Numbered samples that are collated to tensors of one shape.

    D is samples times ``tokens_per_sample``, so what a run is recorded with is exact where every sample has as many
    targets. Of samples that are padded to one shape and masked, D counts the targets that the loss counts, by their
    mean over the data (known to about 1 %, see `targets`); FLOPs are those of the padded tensors, spread over the
    targets that count, so that C stays exact. Samples of several shapes are refused.
    """

    @property
    def tokens_per_sample(self) -> int:
        """Tokens (or images, ...) that one sample counts for in D: stated by a source of your own, else measured."""

    @property
    def num_samples(self) -> int | None:
        """How many distinct samples there are; None for a stream of unknown length."""

    @property
    def fingerprint(self) -> str:
        """Identifies the content: equal data, equal fingerprint."""

    def batch(self, ids: NDArray[np.int64]) -> Any:
        """Collates the samples ``ids`` (shape (b,)) into one CPU batch, ``(inputs, targets)`` or a mapping."""
