"""Groups of patterns as samples: amplitudes in, the first patch of the object as the target. The input normalisation.

A sample is ``(float32 (C, N, N), float32 (3, N, N))``: the normalised amplitudes of a group; and of its first patch the
real part, the imaginary part, and the illumination |P|**2. D counts detector pixels, C * N * N a sample.
"""

# B groups, C patterns of a group, N pixels of a side

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from flops_fit.examples.diffraction_imaging.contract import Patterns, load_patterns
from numpy.typing import NDArray

INPUT_MEAN = 0.5
INPUT_STD = 0.5
"""Of amplitudes under a probe of unit mean power, roughly: the same for all files, so that a trained network can be
used on a file that it has never seen, and dose stays what it is, noise."""


def normalise_input(amplitudes: torch.Tensor) -> torch.Tensor:
    """Returns what the network sees of stored amplitudes."""
    return (amplitudes - INPUT_MEAN) / INPUT_STD


class PatternGroups:
    """The groups of a file, numbered; a `flops_fit.data.sources.SampleSource`."""

    def __init__(self, patterns: Patterns) -> None:
        self.patterns = patterns
        self._amplitudes = torch.from_numpy(patterns.diffraction)
        self._truth = torch.view_as_real(torch.from_numpy(patterns.truth)).permute(0, 3, 1, 2)
        self._illumination = torch.from_numpy(np.abs(patterns.probe) ** 2)

    @property
    def tokens_per_sample(self) -> int:
        """Detector pixels of a group."""
        return self.patterns.groups.shape[1] * self._illumination.numel()

    @property
    def num_samples(self) -> int:
        """B, groups of the file."""
        return len(self.patterns.groups)

    @cached_property
    def fingerprint(self) -> str:
        """Of what a sample is made of."""
        digest = hashlib.sha256()
        parts = self.patterns
        for array in (parts.diffraction, parts.truth, parts.probe, parts.groups):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()[:16]

    def batch(self, ids: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the samples ``ids``: shapes (B, C, N, N) and (B, 3, N, N)."""
        groups_BC = torch.from_numpy(self.patterns.groups[ids])
        truth = self._truth[groups_BC[:, 0]]
        illumination = self._illumination.expand(len(ids), 1, -1, -1)
        return normalise_input(self._amplitudes[groups_BC]), torch.cat([truth, illumination], dim=1)


def load_groups(path: str | Path, *, gridsize: int) -> PatternGroups:
    """Reads and checks a file; errors are those of `contract.load_patterns`."""
    return PatternGroups(load_patterns(path, gridsize=gridsize))
