"""The simulation of a study: a training and a test file for each dose and view.

Objects and the first patch of every group are the same in all views and doses of a seed, so conditions differ in what
is measured and not in what is to be found. Training and test objects are drawn apart and numbered through.
"""

# B groups, C patterns of a group, N pixels of a patch, M pixels of all objects' side

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flops_fit.examples.diffraction_imaging import contract, far_field, scan
from flops_fit.examples.diffraction_imaging.objects import make_random_object
from flops_fit.examples.diffraction_imaging.photographs import make_photograph_object
from flops_fit.examples.diffraction_imaging.probe import DEFOCUS, DIAMETER, make_probe
from numpy.typing import NDArray

from flops_fit.errors import ConfigError

SPLITS = ("train", "test")
OBJECTS: dict[str, Callable[[int, np.random.Generator], NDArray[np.complex64]]] = {
    "random": make_random_object,
    "photograph": make_photograph_object,
}
GROUPS_PER_OBJECT = 32
PATCHES_PER_SIDE = 4
"""Side of an object, in patches."""
MIN_PATCH = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene:
    """What the views and doses of a split have in common."""

    split: str
    objects_KMM: NDArray[np.complex64]
    first_index: int
    """Number of the first object."""
    which_B: NDArray[np.int64]
    corners_B2: NDArray[np.int64]
    """Of the first patch of each group, in its object."""


def simulate_study(
    out: Path,
    *,
    doses: Sequence[float],
    views: Sequence[str],
    patch: int,
    num_train: int,
    num_test: int,
    seed: int = 42,
    test_object: str = "random",
    defocus: float = DEFOCUS,
) -> list[Path]:
    """Writes the files of a study and returns their paths; the same arguments give the same bytes.

    The view "baseline" goes to ``out/phase_c/dose_1000/patched_train.npz``, others such as "dense" to
    ``out/phase_d/dose_1000/dense/dense_train.npz``, and ``..._test.npz`` beside them; `contract` says what they hold.
    A file is there whole or not at all. Another choice of doses and views leaves the bytes of a file as they are.

    Args:
        out: Folder, made as needed.
        doses: Photons per pattern, on average.
        views: Names in `scan.VIEWS`: baseline, dense, sparse.
        patch: N, pixels of a pattern's side: even, and a multiple of 4 for the network.
        num_train, num_test: Samples of a file, which are groups of one pattern or of four.
        seed: Of objects, positions and noise.
        test_object: A name in `OBJECTS`, of the test files' objects: "random" as in training, or "photograph".
        defocus: Of the probe, see `probe.make_probe`.

    Raises:
        ConfigError: If an argument is out of range, or scikit-image is missing for photographs.
        StoreError: If a file cannot be written.
    """
    _check(doses, views, patch, num_train, num_test, test_object)
    probe = make_probe(patch, defocus=defocus)
    paths = []
    first_index = 0
    for split, count, kind in zip(SPLITS, (num_train, num_test), ("random", test_object), strict=True):
        scene = _make_scene(split, count, kind, patch, seed, first_index)
        first_index += len(scene.objects_KMM)
        for view in views:
            for dose, patterns in _measure(scene, view, probe, doses, seed):
                path = file_of(Path(out), dose=dose, view=view, split=split)
                contract.save_patterns(path, patterns)
                paths.append(path)
    return sorted(paths)


def file_of(out: Path, *, dose: float, view: str, split: str) -> Path:
    """Returns where a file of a study lies."""
    folder = f"dose_{dose:.0f}"
    if view == "baseline":
        return out / "phase_c" / folder / f"patched_{split}.npz"
    return out / "phase_d" / folder / view / f"{view}_{split}.npz"


def _check(
    doses: Sequence[float], views: Sequence[str], patch: int, num_train: int, num_test: int, test_object: str
) -> None:
    for view in views:
        scan.find_view(view)
    unfit = [dose for dose in doses if not 1 <= dose < math.inf]
    if unfit or len({f"{dose:.0f}" for dose in doses}) < len(doses):
        raise ConfigError(
            f"doses: got {list(doses)}, expected photons per pattern from 1 on, which differ when rounded, since each "
            "names a folder. Leave out the others."
        )
    if patch < MIN_PATCH or patch % 4:
        raise ConfigError(f"patch: got {patch}, expected a multiple of 4 from {MIN_PATCH} on, such as 16 or 32.")
    for name, count in (("num_train", num_train), ("num_test", num_test)):
        if count < 1:
            raise ConfigError(f"{name}: got {count}, expected at least 1 sample.")
    if test_object not in OBJECTS:
        raise ConfigError(f"test_object: got {test_object!r}, expected one of {', '.join(OBJECTS)}.")


def _make_scene(split: str, count: int, kind: str, patch: int, seed: int, first_index: int) -> _Scene:
    number, size = math.ceil(count / GROUPS_PER_OBJECT), PATCHES_PER_SIDE * patch
    rng = _rng(seed, split, "objects")
    objects = np.stack([OBJECTS[kind](size, rng) for _ in range(number)])
    # Room for the widest view in all of them, so that the first patches are the same.
    room = size - patch - max(view.step(DIAMETER * patch) for view in scan.VIEWS.values())
    return _Scene(
        split=split,
        objects_KMM=objects,
        first_index=first_index,
        which_B=np.arange(count) * number // count,
        corners_B2=scan.draw_corners(count, room, _rng(seed, split, "positions")),
    )


def _measure(
    scene: _Scene, view_name: str, probe: NDArray[np.complex64], doses: Sequence[float], seed: int
) -> Iterator[tuple[float, contract.Patterns]]:
    view, patch = scan.VIEWS[view_name], len(probe)
    corners_BC2 = scan.group_corners(scene.corners_B2, view, view.step(DIAMETER * patch))
    corners_n2 = corners_BC2.reshape(-1, 2)
    which_n = np.repeat(scene.which_B, view.gridsize**2)
    patches = _cut(scene.objects_KMM, which_n, corners_n2, patch)
    mosaic, origins_K2 = _lay_out(scene.objects_KMM)
    centres_n2 = (corners_n2 + origins_K2[which_n] + patch / 2).astype(np.float64)
    groups = np.arange(len(corners_n2)).reshape(corners_BC2.shape[:2])
    overlap = scan.measure_overlap(centres_n2[:, 1], centres_n2[:, 0], groups, DIAMETER * patch)
    for dose in doses:
        scale = far_field.photon_scale(probe, patches, dose)
        noise = (view_name, f"{dose:.0f}")
        metadata = {
            "nphotons": float(dose),
            "view": view_name,
            "gridsize": view.gridsize,
            "overlap": overlap,
            "scale": scale,
            "seeds": {"study": seed, "split": scene.split, "noise": list(noise)},
            "version": contract.VERSION,
        }
        yield (
            dose,
            contract.Patterns(
                diffraction=far_field.record_patterns(probe, patches, scale, _rng(seed, scene.split, *noise)),
                xcoords=centres_n2[:, 1].copy(),
                ycoords=centres_n2[:, 0].copy(),
                probe=probe,
                objects=mosaic,
                truth=patches,
                object_index=scene.first_index + which_n,
                groups=groups,
                metadata=metadata,
            ),
        )


def _cut(
    objects_KMM: NDArray[np.complex64], which_n: NDArray[np.int64], corners_n2: NDArray[np.int64], patch: int
) -> NDArray[np.complex64]:
    """Returns the patches at these corners of these objects, shape (n, N, N)."""
    steps = np.arange(patch)
    rows, columns = corners_n2[:, 0, None, None] + steps[:, None], corners_n2[:, 1, None, None] + steps
    return objects_KMM[which_n[:, None, None], rows, columns]


def _lay_out(objects_KMM: NDArray[np.complex64]) -> tuple[NDArray[np.complex64], NDArray[np.int64]]:
    """Returns one square picture of all objects side by side, and the corner of each in it; ones fill the rest."""
    number, size = objects_KMM.shape[:2]
    side = math.ceil(math.sqrt(number))
    mosaic = np.ones((side * size, side * size), dtype=np.complex64)
    origins = size * np.stack(np.divmod(np.arange(number), side), axis=-1)
    for one, (row, column) in zip(objects_KMM, origins, strict=True):
        mosaic[row : row + size, column : column + size] = one
    return mosaic, origins


def _rng(seed: int, *names: str) -> np.random.Generator:
    """Returns a generator of its own for each use, whatever else is drawn."""
    return np.random.default_rng([seed, *("/".join(names)).encode()])
