"""The contract of a file of diffraction patterns: its keys, written and checked in one place.

| key | shape, type | what it holds |
|---|---|---|
| diffraction (or diff3d) | (n, N, N) float32 | amplitudes, sqrt(counts) / scale, from 0 to under 10 |
| xcoords, ycoords | (n,) float64 | centres of the patches in objectGuess, pixels: column, row |
| probeGuess | (N, N) complex64 | the probe |
| objectGuess | (M, M) complex64 | the objects, side by side |
| Y | (n, N, N) complex64 | the patches of the object, as the truth to learn |
| object_index | (n,) int64 | which object a pattern is of; never the same in training and test files |
| nn_indices | (B, 4) int64 | patterns of each group; at grid size 2 only |
| _metadata | text | JSON: nphotons view gridsize overlap scale seeds version |
"""

# n patterns, N pixels of a side, M pixels of an object's side, B groups, C patterns of a group

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flops_fit.errors import InputError
from flops_fit.files import replace_large_file

VERSION = 1
GRIDSIZES = (1, 2)
MAX_AMPLITUDE = 10.0
METADATA_KEYS = ("nphotons", "view", "gridsize", "overlap", "scale", "seeds", "version")
AMPLITUDE_KEYS = ("diffraction", "diff3d")
ADVICE = "Simulate the data anew with simulate_study, or write the file by the table in contract.py."


@dataclass(frozen=True, kw_only=True, eq=False)
class Patterns:
    """What a file holds, checked."""

    diffraction: NDArray[np.float32]
    xcoords: NDArray[np.float64]
    ycoords: NDArray[np.float64]
    probe: NDArray[np.complex64]
    objects: NDArray[np.complex64]
    truth: NDArray[np.complex64]
    object_index: NDArray[np.int64] | None
    groups: NDArray[np.int64]
    """Shape (B, C); the first of a row is the patch to be reconstructed."""
    metadata: Mapping[str, Any]

    @property
    def scale(self) -> float:
        """Root of the photons per unit of intensity."""
        return float(self.metadata["scale"])


def save_patterns(path: Path, patterns: Patterns) -> None:
    """Writes a file, whole or not at all; equal patterns give equal bytes.

    Raises:
        StoreError: If the disk refuses.
    """
    arrays: dict[str, Any] = {
        "diffraction": patterns.diffraction,
        "xcoords": patterns.xcoords,
        "ycoords": patterns.ycoords,
        "probeGuess": patterns.probe,
        "objectGuess": patterns.objects,
        "Y": patterns.truth,
        "_metadata": np.array(json.dumps(patterns.metadata, sort_keys=True, allow_nan=False)),
    }
    if patterns.object_index is not None:
        arrays["object_index"] = patterns.object_index
    if patterns.groups.shape[1] > 1:
        arrays["nn_indices"] = patterns.groups
    replace_large_file(path, lambda aside: np.savez(aside, **arrays))


def load_patterns(path: str | Path, *, gridsize: int) -> Patterns:
    """Reads and checks a file.

    Args:
        path: Of an npz file; nothing in it is unpickled.
        gridsize: That the file must be of, 1 or 2.

    Raises:
        InputError: If the file cannot be read, or breaks the contract: the key, what was expected and what we got.
    """
    path = Path(path)
    if gridsize not in GRIDSIZES:
        raise InputError(f"gridsize: got {gridsize!r}, expected one of {GRIDSIZES}. Give 1 for single patterns.")
    check = _Checks(path, _read(path))
    key = next((k for k in AMPLITUDE_KEYS if k in check.arrays), AMPLITUDE_KEYS[0])
    diffraction = check.array(key, np.float32, ("n", "N", "N"))
    check.that(key, diffraction.size > 0, "at least one pattern", f"the shape {diffraction.shape}")
    low, high = float(diffraction.min()), float(diffraction.max())
    is_amplitude = low >= 0 and high < MAX_AMPLITUDE
    check.that(key, is_amplitude, f"amplitudes from 0 to under {MAX_AMPLITUDE:g}", f"values from {low:g} to {high:g}")
    metadata = check.metadata(gridsize)
    return Patterns(
        diffraction=diffraction,
        xcoords=check.array("xcoords", np.float64, ("n",)),
        ycoords=check.array("ycoords", np.float64, ("n",)),
        probe=check.array("probeGuess", np.complex64, ("N", "N")),
        objects=check.array("objectGuess", np.complex64, ("M", "M")),
        truth=check.array("Y", np.complex64, ("n", "N", "N")),
        object_index=check.integers("object_index", ("n",)) if "object_index" in check.arrays else None,
        groups=check.groups(gridsize),
        metadata=metadata,
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as handle:
            file = np.load(handle, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise InputError(f"{path}: got a single array, expected an npz file of several by name. {ADVICE}")
            return {key: np.asarray(file[key]) for key in file.files}
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file, expected an npz file of patterns. {ADVICE}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not readable as an npz file of plain arrays ({error}). {ADVICE}") from error


@dataclass(kw_only=False)
class _Checks:
    """Arrays of a file, and the sizes that those checked so far have in common."""

    path: Path
    arrays: dict[str, NDArray[Any]]

    def __post_init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def that(self, key: str, holds: bool, expected: str, got: str) -> None:
        if not holds:
            raise InputError(f"{self.path}: key {key!r}: expected {expected}, got {got}. {ADVICE}")

    def array(self, key: str, dtype: type[np.generic], axes: tuple[str, ...]) -> NDArray[Any]:
        """Returns an array of finite numbers, whose axes have the sizes that others gave to these letters."""
        found = self._shaped(key, axes, np.dtype(dtype).name, lambda d: d == np.dtype(dtype))
        self.that(key, bool(np.isfinite(found).all()), "finite numbers", "NaN or infinite ones")
        return found

    def integers(self, key: str, axes: tuple[str, ...]) -> NDArray[np.int64]:
        return self._shaped(key, axes, "integers", lambda d: d.kind in "iu").astype(np.int64)

    def groups(self, gridsize: int) -> NDArray[np.int64]:
        """Returns the patterns of each group, shape (B, gridsize**2)."""
        count = self.sizes["n"]
        if gridsize == 1:
            return np.arange(count)[:, None]
        self.sizes["4"] = gridsize**2
        found = self.integers("nn_indices", ("B", "4"))
        expected = f"numbers of patterns, from 0 to {count - 1}"
        got = f"{found.min()} to {found.max()}" if found.size else f"the shape {found.shape}"
        self.that("nn_indices", found.size > 0 and found.min() >= 0 and found.max() < count, expected, got)
        return found

    def metadata(self, gridsize: int) -> dict[str, Any]:
        """Returns what the file says of itself."""
        expected = f"JSON text of an object with {' '.join(METADATA_KEYS)}"
        raw = self.arrays.get("_metadata")
        self.that("_metadata", raw is not None and raw.dtype.kind == "U" and raw.ndim == 0, expected, _describe(raw))
        try:
            found = json.loads(str(raw))
        except ValueError:
            found = None
        self.that("_metadata", isinstance(found, dict), expected, repr(str(raw)[:60]))
        missing = [key for key in METADATA_KEYS if key not in found]
        self.that("_metadata", not missing, expected, f"no {', '.join(missing)}")
        for key in ("scale", "nphotons"):
            value = found[key]
            is_positive = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
            self.that(f"_metadata.{key}", is_positive, "a positive number", repr(value))
        is_known = found["version"] == VERSION
        self.that("_metadata.version", is_known, f"{VERSION}, which this code reads", repr(found["version"]))
        self.that("_metadata.gridsize", found["gridsize"] == gridsize, str(gridsize), repr(found["gridsize"]))
        return found

    def _shaped(
        self, key: str, axes: tuple[str, ...], kind: str, is_kind: Callable[[np.dtype[Any]], bool]
    ) -> NDArray[Any]:
        sizes = [str(self.sizes.get(axis, axis)) for axis in axes]
        expected = f"{kind} of shape ({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
        found = self.arrays.get(key)
        if found is None:
            self.that(key, False, expected, f"only the keys {' '.join(sorted(self.arrays))}")
        fits = found.ndim == len(axes) and is_kind(found.dtype)
        for axis, size in zip(axes, found.shape, strict=False):
            fits = fits and self.sizes.setdefault(axis, size) == size
        self.that(key, fits, expected, _describe(found))
        return found


def _describe(array: NDArray[Any] | None) -> str:
    return "no such key" if array is None else f"{array.dtype} of shape {array.shape}"
