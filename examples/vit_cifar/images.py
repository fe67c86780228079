"""Labelled images in memory: normalised once per channel, and counted as images."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import TensorDataset


class LabelledImages(TensorDataset):
    """Images and labels as two tensors; ``dataset[i]`` is ``(float32 (I, height, width), int64)``."""

    data_unit = "images"

    def __init__(self, pixels: NDArray[np.uint8], labels: ArrayLike, mean: Sequence[float], std: Sequence[float]):
        """Normalises the pixels.

        Args:
            pixels: Shape (images, channels, height, width), 0 to 255.
            labels: Classes from 0, shape (images,).
            mean, std: Of each channel, of pixels as fractions of 255.
        """
        super().__init__(normalise(torch.tensor(pixels), mean, std), torch.tensor(labels, dtype=torch.int64))


def normalise(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Returns ``(pixels / 255 - mean) / std`` for each channel, float32.

    Args:
        pixels: uint8, shape (..., channels, height, width).
        mean, std: One number a channel.
    """
    fractions = pixels.to(torch.float32).div_(255)
    return fractions.sub_(torch.tensor(mean).view(-1, 1, 1)).div_(torch.tensor(std).view(-1, 1, 1))
