"""The scan: where the probe stands, which positions form a group, and how much their discs overlap."""

# B groups, C patterns of a group

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flops_fit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class View:
    """How patterns are grouped into samples."""

    gridsize: int
    """A group is a block of gridsize x gridsize positions; the network sees all of it and returns its first patch."""
    overlap: float | None = None
    """Wanted overlap of neighbours along a line, as a fraction of the disc's diameter; None where a group is one."""

    def step(self, diameter: float) -> int:
        """Distance of neighbours in whole pixels, for a disc of this diameter in pixels."""
        return 0 if self.overlap is None else max(1, round((1 - self.overlap) * diameter))


VIEWS = {
    "baseline": View(gridsize=1),
    "dense": View(gridsize=2, overlap=0.7),
    "sparse": View(gridsize=2, overlap=0.2),
}


def find_view(name: str) -> View:
    """Returns a view by name.

    Raises:
        ConfigError: If there is none of this name.
    """
    if name not in VIEWS:
        raise ConfigError(f"view: got {name!r}, expected one of {', '.join(VIEWS)}. Name one of these.")
    return VIEWS[name]


def draw_corners(count: int, room: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns the corner (row, column) of each group's first patch, from 0 to ``room`` inclusive, shape (B, 2)."""
    return rng.integers(0, room, (count, 2), endpoint=True)


def group_corners(first_B2: NDArray[np.int64], view: View, step: int) -> NDArray[np.int64]:
    """Returns the corners of all patches, shape (B, C, 2); patch c stands in row c // gridsize of the block."""
    rows, columns = np.divmod(np.arange(view.gridsize**2), view.gridsize)
    return first_B2[:, None, :] + step * np.stack([rows, columns], axis=-1)


def disc_overlap(distance: NDArray[np.float64] | float, diameter: float) -> NDArray[np.float64]:
    """Returns the area that two discs share, as a fraction of one: 1 at distance 0, and 0 from one diameter on.

    2 R**2 acos(d / 2R) - (d / 2) sqrt(4 R**2 - d**2) over pi R**2, the area of a circle-circle lens.
    """
    x = np.clip(np.asarray(distance, dtype=np.float64) / diameter, 0.0, 1.0)
    return 2 / np.pi * (np.arccos(x) - x * np.sqrt(1 - x**2))


def measure_overlap(
    xcoords: NDArray[np.float64], ycoords: NDArray[np.float64], groups_BC: NDArray[np.int64], diameter: float
) -> float | None:
    """Returns the mean overlap of each pattern's disc with its nearest in the group; None where a group is one."""
    if groups_BC.shape[1] == 1:
        return None
    x, y = xcoords[groups_BC], ycoords[groups_BC]
    distances_BCC = np.hypot(x[:, :, None] - x[:, None, :], y[:, :, None] - y[:, None, :])
    distances_BCC[:, np.arange(x.shape[1]), np.arange(x.shape[1])] = np.inf
    return float(disc_overlap(distances_BCC.min(axis=-1), diameter).mean())
