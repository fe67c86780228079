"""Random objects: complex transmission functions with smooth texture and soft lines, for training and testing."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit

AMPLITUDE = (0.4, 1.0)
"""Least and greatest transmission."""
MAX_PHASE = 1.2
"""Radians; the phase lies between plus and minus this."""
TEXTURE = 2.0
"""Standard deviation of the filter that makes the texture, pixels."""
LINE_WIDTH = 1.2
"""Standard deviation across a line, pixels."""
PIXELS_PER_LINE = 8
"""An object of M x M pixels has M / PIXELS_PER_LINE lines in each of amplitude and phase."""

Array = NDArray[np.float64]


def make_random_object(size: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Returns an object of ``size`` x ``size`` pixels."""
    return compose_object(_texture(size, rng), _texture(size, rng))


def compose_object(amplitude: Array, phase: Array) -> NDArray[np.complex64]:
    """Maps two real fields of zero mean and unit spread to transmission and phase, smoothly into their ranges."""
    low, high = AMPLITUDE
    transmission = low + (high - low) * expit(1.5 * amplitude)
    return (transmission * np.exp(1j * MAX_PHASE * np.tanh(phase))).astype(np.complex64)


def _texture(size: int, rng: np.random.Generator) -> Array:
    field = gaussian_filter(rng.standard_normal((size, size)), TEXTURE, mode="wrap")
    field /= field.std()
    y, x = np.mgrid[:size, :size]
    for angle, offset, height in zip(*_lines(size, rng), strict=True):
        distance = (x - size / 2) * np.cos(angle) + (y - size / 2) * np.sin(angle) - offset
        field += height * np.exp(-0.5 * (distance / LINE_WIDTH) ** 2)
    return (field - field.mean()) / field.std()


def _lines(size: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Angles, distances from the centre and heights of lines."""
    count = size // PIXELS_PER_LINE
    return (
        rng.uniform(0, np.pi, count),
        rng.uniform(-size / 2, size / 2, count),
        rng.uniform(1.0, 2.5, count) * rng.choice([-1.0, 1.0], count),
    )
