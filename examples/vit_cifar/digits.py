"""Handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels (Alpaydin and Kaynak 1998, CC BY 4.0)."""

import numpy as np
from flops_fit.examples.vit_cifar.images import LabelledImages

from flops_fit.errors import ConfigError

IMAGE_SIZE = 8
# Of all images, as fractions of the brightest pixel.
MEAN = (0.3053,)
STD = (0.3761,)
HELD_OUT_FRACTION = 0.2


def load_digits() -> tuple[LabelledImages, LabelledImages]:
    """Returns training and held-out images, split at random under a fixed seed.

    Raises:
        ConfigError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise ConfigError(
            "--data digits: scikit-learn is not installed, whose images these are. Install it with "
            "'pip install scikit-learn', or take --data shapes, which needs nothing."
        ) from error
    table = load()
    # From 0..16 to 0..255.
    pixels = np.round(table.images * (255 / 16)).astype(np.uint8)[:, None]
    order = np.random.default_rng(0).permutation(len(pixels))
    border = round(HELD_OUT_FRACTION * len(pixels))
    held_out, train = (
        LabelledImages(pixels[ids], table.target[ids], MEAN, STD) for ids in (order[:border], order[border:])
    )
    return train, held_out
