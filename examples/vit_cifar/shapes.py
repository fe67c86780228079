"""Rendered shapes: a seeded stream of synthetic images, 32 x 32 in colour, for machines without a data set.

Each image holds one of ten bright shapes on a dark ground; place, size, tilt, both colours and the noise are random.
Image i follows from the seed and i alone: any order of reading gives the same images, and none is kept in memory.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from flops_fit.examples.vit_cifar.images import normalise
from numpy.typing import NDArray

IMAGE_SIZE = 32
# Of each channel, measured on 20,000 images, as fractions of 255.
MEAN = (0.28, 0.28, 0.28)
STD = (0.215, 0.215, 0.215)
NOISE = 0.1
"""Standard deviation of the noise of a pixel, as a fraction of 255."""

Array = NDArray[np.float32]


def _polygon(x: Array, y: Array, corners: int) -> NDArray[np.bool_]:
    """The regular polygon of radius 1; x and y have the shape (images, height, width)."""
    angle, step = np.arctan2(y, x), 2 * np.pi / corners
    return np.hypot(x, y) * np.cos((angle % step) - step / 2) < np.cos(step / 2)


def _ring(x: Array, y: Array) -> NDArray[np.bool_]:
    return (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.6)


def _frame(x: Array, y: Array) -> NDArray[np.bool_]:
    return _polygon(x, y, 4) & ~_polygon(x / 0.6, y / 0.6, 4)


def _cross(x: Array, y: Array) -> NDArray[np.bool_]:
    return (np.minimum(abs(x), abs(y)) < 0.25) & (np.maximum(abs(x), abs(y)) < 0.9)


def _crescent(x: Array, y: Array) -> NDArray[np.bool_]:
    return (np.hypot(x, y) < 1) & (np.hypot(x - 0.5, y) > 0.8)


def _half_disc(x: Array, y: Array) -> NDArray[np.bool_]:
    return (np.hypot(x, y) < 1) & (x > 0)


def _bar(x: Array, y: Array) -> NDArray[np.bool_]:
    return (abs(x) < 1) & (abs(y) < 0.3)


SHAPES: tuple[Callable[[Array, Array], NDArray[np.bool_]], ...] = (
    lambda x, y: np.hypot(x, y) < 0.9,
    lambda x, y: _polygon(x, y, 3),
    lambda x, y: _polygon(x, y, 4),
    lambda x, y: _polygon(x, y, 5),
    _ring,
    _frame,
    _cross,
    _crescent,
    _half_disc,
    _bar,
)  # fmt: skip
"""What is inside a shape of radius 1, by class."""


class RenderedShapes(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Synthetic images; ``dataset[i]`` is ``(float32 (3, 32, 32), int64)``, normalised per channel.

    Two seeds have no image in common.
    """

    data_unit = "images"

    def __init__(self, num_images: int, *, seed: int = 0) -> None:
        self.num_images, self.seed = num_images, seed

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.__getitems__([i])[0]

    def __getitems__(self, ids: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Renders several images at once."""
        outside = [i for i in ids if not 0 <= i < self.num_images]
        if outside:
            raise IndexError(f"image {outside[0]} of {self.num_images}")
        pixels, labels = render(np.asarray(ids, dtype=np.uint64), self.seed)
        images = normalise(torch.from_numpy(pixels), MEAN, STD)
        return list(zip(images.unbind(), torch.from_numpy(labels).unbind(), strict=True))


def render(ids: NDArray[np.uint64], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns pixels of shape (images, 3, 32, 32) and the classes of these images."""
    u = _uniform(ids, seed, 12)
    labels = (u[:, 0] * len(SHAPES)).astype(np.int64)
    inside = np.zeros((len(ids), IMAGE_SIZE, IMAGE_SIZE), dtype=np.bool_)
    x, y = _coordinates(u[:, 1:5])
    for label in np.unique(labels):
        of_class = labels == label
        inside[of_class] = SHAPES[label](x[of_class], y[of_class])
    background, foreground = _colours(u[:, 5:11])
    values = np.where(inside[:, None], foreground[:, :, None, None], background[:, :, None, None])
    values += NOISE * _noise(u[:, 11], values.shape[1:], seed)
    return (255 * values.clip(0, 1)).round().astype(np.uint8), labels


def _coordinates(u: Array) -> tuple[Array, Array]:
    """Places of the pixels in the frame of each shape: moved, turned, and scaled to radius 1."""
    radius = IMAGE_SIZE * (0.25 + 0.15 * u[:, 0])
    centre = IMAGE_SIZE * (0.45 + 0.1 * u[:, 1:3])
    angle = 0.6 * (u[:, 3] - 0.5)
    grid = np.arange(IMAGE_SIZE, dtype=np.float32) + np.float32(0.5)
    dx = (grid[None, None, :] - centre[:, 0, None, None]) / radius[:, None, None]
    dy = (grid[None, :, None] - centre[:, 1, None, None]) / radius[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    return cos * dx + sin * dy, cos * dy - sin * dx


def _colours(u: Array) -> tuple[Array, Array]:
    """A dark background and a shape that is brighter in each channel, shape (images, 3) each."""
    background = 0.4 * u[:, :3]
    return background, background + 0.2 + 0.4 * u[:, 3:]


def _uniform(ids: NDArray[np.uint64], seed: int, count: int) -> Array:
    """Numbers from 0 to 1, shape (images, count): splitmix64 of seed, image and column (Steele et al. 2014)."""
    columns = np.arange(count, dtype=np.uint64)
    z = np.uint64(seed) * np.uint64(0x2545F4914F6CDD1D) + ids[:, None] * np.uint64(count) + columns
    z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def _noise(u: Array, shape: tuple[int, ...], seed: int) -> Array:
    """Normal numbers of an image: a window, at a place that u draws, of one row of them."""
    size = int(np.prod(shape))
    bank = _noise_bank(seed)
    starts = (u * (len(bank) - size)).astype(np.int64)
    return bank[starts[:, None] + np.arange(size)].reshape(len(u), *shape)


@cache
def _noise_bank(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(2**20, dtype=np.float32)
