"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): 60,000 training and 10,000 test images, 28 x 28, 10 classes."""

from pathlib import Path

from flops_fit.examples.vit_cifar.idx_files import read_idx
from flops_fit.examples.vit_cifar.images import LabelledImages

from flops_fit.errors import ConfigError

IMAGE_SIZE = 28
NUM_CLASSES = 10
# Of the 60,000 training images, as fractions of 255.
MEAN = (0.2860,)
STD = (0.3530,)
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"


def load_fashion_mnist(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """Reads the training and the test images from four idx files, gzip or not.

    Raises:
        ConfigError: If a file is missing or broken, the images are not 28 x 28, or a label is not one of 10 classes.
    """
    train, test = (_load(folder, part) for part in ("train", "t10k"))
    return train, test


def _load(folder: Path, part: str) -> LabelledImages:
    pixels = read_idx(_find(folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find(folder, f"{part}-labels-idx1-ubyte"))
    where = f"--data fashion-mnist: the {part} images of {folder}"
    if pixels.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise ConfigError(
            f"{where} have the shape {pixels.shape[1:]}, expected {(IMAGE_SIZE, IMAGE_SIZE)} pixels. "
            "Name the folder of Fashion-MNIST."
        )
    if labels.shape != pixels.shape[:1] or not len(pixels):
        raise ConfigError(
            f"{where} number {len(pixels):,} and their labels {labels.size:,}, expected one label an image, and at "
            "least one. Copy the four files again."
        )
    if labels.max() >= NUM_CLASSES:
        raise ConfigError(
            f"{where} have labels up to {labels.max()}, expected 0 to {NUM_CLASSES - 1}. "
            f"Name the folder of Fashion-MNIST, which has {NUM_CLASSES} classes."
        )
    return LabelledImages(pixels[:, None], labels, MEAN, STD)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    state = f"has no file {name} or {name}.gz" if folder.is_dir() else "is not a folder"
    raise ConfigError(
        f"--data fashion-mnist: {folder} {state}. Name the folder of the four idx files; "
        f"Debian's package dataset-fashion-mnist installs them to {DEBIAN_FOLDER}."
    )
