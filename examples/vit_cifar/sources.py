"""Sources of images: what ``--data`` names, the shape of their images, and the sweep that suits each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flops_fit.examples.vit_cifar import cifar10, digits, fashion_mnist, presets, shapes

from flops_fit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images to train on and held-out images."""

    name: str
    """Of the images, in plan and report."""
    load: Callable[[], tuple[Any, Any]]
    """Returns training and held-out data; nothing is read before."""
    image_size: int
    in_channels: int
    patch_size: int
    preset: Mapping[str, Any]
    """Settings of the sweep."""
    num_heads: int = 2
    num_classes: int = 10


def find_source(data: str) -> Source:
    """Returns the source that ``--data`` names.

    Raises:
        ConfigError: If there is none of this name.
    """
    name, _, folder = data.partition(":")
    if data in SOURCES:
        return SOURCES[data]
    if name == "fashion-mnist" and folder:
        return _fashion_mnist(Path(folder).expanduser())
    if data and Path(data).expanduser().is_dir():
        return _cifar10(str(Path(data).expanduser()))
    raise ConfigError(
        f"--data: got {data!r}, expected 'shapes', 'digits', 'fashion-mnist:FOLDER' with the folder of its four idx "
        f"files (Debian: {fashion_mnist.DEBIAN_FOLDER}), or a folder that holds a copy of {cifar10.HUB_NAME}."
    )


def _cifar10(name: str) -> Source:
    return Source(
        name="CIFAR-10",
        load=lambda: (cifar10.CIFAR10Dataset("train", name=name), cifar10.CIFAR10Dataset("test", name=name)),
        image_size=cifar10.IMAGE_SIZE,
        in_channels=3,
        patch_size=4,
        preset=presets.CIFAR10,
    )


def _fashion_mnist(folder: Path) -> Source:
    return Source(
        name="Fashion-MNIST",
        load=partial(fashion_mnist.load_fashion_mnist, folder),
        image_size=fashion_mnist.IMAGE_SIZE,
        in_channels=1,
        patch_size=7,
        num_heads=1,  # The optimal widths of these budgets are 4 to 10: multiples of 2 are too far apart.
        preset=presets.FASHION_MNIST,
    )


SOURCES = {
    "cifar10": _cifar10(cifar10.HUB_NAME),
    "shapes": Source(
        name="synthetic shapes",
        load=lambda: (shapes.RenderedShapes(1_000_000, seed=0), shapes.RenderedShapes(10_000, seed=1)),
        image_size=shapes.IMAGE_SIZE,
        in_channels=3,
        patch_size=8,
        num_heads=1,
        preset=presets.SHAPES,
    ),
    "digits": Source(
        name="digits of scikit-learn",
        load=digits.load_digits,
        image_size=digits.IMAGE_SIZE,
        in_channels=1,
        patch_size=2,
        preset=presets.DIGITS,
    ),
}
"""Sources that need no folder, by their name in ``--data``."""
