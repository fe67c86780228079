"""CIFAR-10 (Krizhevsky 2009) from the Hugging Face hub: 50,000 training and 10,000 test images, 32 x 32, 10 classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from flops_fit.examples.reference import load_hub_split
from flops_fit.examples.vit_cifar.images import normalise

from flops_fit.errors import ContractError

HUB_NAME = "uoft-cs/cifar10"
IMAGE_SIZE = 32
NUM_CLASSES = 10
# Of the red, green and blue channel of the 50,000 training images, as fractions of 255.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


class CIFAR10Dataset(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images of the columns ``img`` (PIL) and ``label``; nothing is read before the first ``len()`` or index.

    ``dataset[i]`` is ``(float32 (3, 32, 32), int64)``, each channel less its `MEAN` and divided by its `STD`.
    The held-out data are ``split="test"``.
    """

    data_unit = "images"

    def __init__(self, split: str = "train", *, name: str = HUB_NAME) -> None:
        self.split = split
        self.name = name
        self._dataset: Any = None
        """Rows; loaded on first use, unless set before."""

    def __len__(self) -> int:
        return len(self._rows())

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._sample(i, self._rows()[i])

    def __getitems__(self, ids: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Returns several samples, whose rows a Hugging Face data set reads at once."""
        rows = self._rows()
        found = rows.__getitems__(ids) if hasattr(rows, "__getitems__") else [rows[i] for i in ids]
        return [self._sample(i, row) for i, row in zip(ids, found, strict=True)]

    def _rows(self) -> Any:
        if self._dataset is None:
            self._dataset = load_hub_split(self.name, self.split)
        return self._dataset

    def _sample(self, i: int, row: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        missing = [column for column in ("img", "label") if column not in row]
        if missing:
            raise ContractError(
                f"{self.name}: row {i} has no column {missing[0]!r}, only {sorted(row)}; expected 'img' (an image) and "
                "'label' (its class). Rename the columns: dataset.rename_columns({...})."
            )
        return self._image(i, row["img"]), self._label(i, row["label"])

    def _image(self, i: int, image: Any) -> torch.Tensor:
        pixels = np.array(image.convert("RGB") if hasattr(image, "convert") else image)
        if pixels.shape != (IMAGE_SIZE, IMAGE_SIZE, 3) or pixels.dtype != np.uint8:
            raise ContractError(
                f"{self.name}: image {i} is a {pixels.dtype} array of shape {pixels.shape}, expected a PIL image of "
                f"{IMAGE_SIZE} x {IMAGE_SIZE} pixels. Resize them: image.resize(({IMAGE_SIZE}, {IMAGE_SIZE}))."
            )
        return normalise(torch.from_numpy(pixels).permute(2, 0, 1), MEAN, STD)

    def _label(self, i: int, label: Any) -> torch.Tensor:
        if not isinstance(label, (int, np.integer)) or not 0 <= label < NUM_CLASSES:
            raise ContractError(
                f"{self.name}: the label of image {i} is {label!r}, expected a class from 0 to {NUM_CLASSES - 1}. "
                "Number the classes from 0, or leave out unlabelled images."
            )
        return torch.tensor(int(label))
