"""Objects made of photographs that scikit-image ships: real structure, for testing what was trained on random objects.

The transmission is one photograph and the phase another. Only pictures inside its wheel are taken (CC0 or public
domain); the others of `skimage.data` would be downloaded.
"""

import numpy as np
from flops_fit.examples.diffraction_imaging.objects import compose_object
from numpy.typing import NDArray

from flops_fit.errors import ConfigError

PHOTOGRAPHS = ("camera", "brick", "grass", "gravel", "moon")
REDUCTION = 2
"""Pixels of a photograph in one of an object, along each axis."""


def make_photograph_object(size: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Returns an object of ``size`` x ``size`` pixels, at most 256, cut from two photographs.

    Raises:
        ConfigError: If scikit-image is not installed, or ``size`` is larger than the photographs.
    """
    amplitude, phase = rng.choice(PHOTOGRAPHS, 2, replace=False)
    return compose_object(_crop(str(amplitude), size, rng), _crop(str(phase), size, rng))


def _crop(name: str, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns a part of a photograph, of which the whole has zero mean and unit spread."""
    picture = _read(name)
    if size > min(picture.shape):
        raise ConfigError(
            f"test_object='photograph': got objects of {size} x {size} pixels, expected at most {min(picture.shape)}, "
            "the side of a photograph. Lower patch, of which an object has four along each side."
        )
    row, column = (int(rng.integers(0, length - size, endpoint=True)) for length in picture.shape)
    part = picture[row : row + size, column : column + size]
    return (part - picture.mean()) / picture.std()


def _read(name: str) -> NDArray[np.float64]:
    """Returns a photograph with REDUCTION x REDUCTION pixels averaged into one."""
    try:
        from skimage import data
    except ImportError as error:
        raise ConfigError(
            "test_object='photograph': scikit-image is not installed, whose photographs these are. Install it with "
            "'pip install scikit-image', or take test_object='random', which needs nothing."
        ) from error
    pixels = np.asarray(getattr(data, name)(), dtype=np.float64)
    height, width = (length // REDUCTION for length in pixels.shape)
    cut = pixels[: height * REDUCTION, : width * REDUCTION]
    return cut.reshape(height, REDUCTION, width, REDUCTION).mean(axis=(1, 3))
