"""Idx files: the format in which MNIST and Fashion-MNIST are published (http://yann.lecun.com/exdb/mnist)."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flops_fit.errors import ConfigError

UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Reads an array of bytes from a file, gzip or not.

    The header is two zero bytes, the type, the number of dimensions, and each dimension as a big-endian uint32.

    Raises:
        ConfigError: If the file cannot be read or is not an idx file of bytes.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"--data: {path} cannot be read: {error}. Copy it again.") from error
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if content[:3] != bytes((0, 0, UNSIGNED_BYTE)) or not 1 <= dimensions <= 3 or len(content) < start:
        raise ConfigError(
            f"--data: {path} is not an idx file of bytes: it starts with {content[:4].hex() or 'nothing'}, expected "
            "00000801 (labels) or 00000803 (images). Copy the four files of the data set again."
        )
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=dimensions, offset=4))
    if len(content) - start != math.prod(shape):
        raise ConfigError(
            f"--data: {path} holds {len(content) - start:,} bytes, expected {math.prod(shape):,} for the shape {shape} "
            "of its header. Copy it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
