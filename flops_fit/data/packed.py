"""Token files: packed once, mapped into memory, read by one index per batch."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flops_fit.errors import InputError
from flops_fit.files import replace_file, storage_errors

DTYPES = ("uint8", "uint16", "uint32")


@dataclass(frozen=True, eq=False)
class PackedTokens:
    """Samples of ``seq_len`` tokens from one file; the targets are the inputs shifted by one.

    Sample i reads tokens i*T to i*T + T, so that each token is a target once.

    Raises:
        InputError: If the file or its ``.json`` beside it is missing or of another length.
    """

    path: Path
    seq_len: int

    def __post_init__(self) -> None:
        """Checks the file against what its description says."""
        expected = self._about["count"] * np.dtype(self._about["dtype"]).itemsize
        if not self.path.is_file() or self.path.stat().st_size != expected:
            raise InputError(f"{self.path}: expected {expected} bytes as packed. Remove it, and it is packed again.")
        if self.num_samples < 1:
            raise InputError(
                f"{self.path}: {self._about['count']} tokens hold no sample of seq_len={self.seq_len}. "
                "Use more text or a shorter seq_len."
            )

    @property
    def tokens_per_sample(self) -> int:
        """T."""
        return self.seq_len

    @property
    def num_samples(self) -> int:
        """How many disjoint samples there are."""
        return (int(self._about["count"]) - 1) // self.seq_len

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokens, and T."""
        return f"{self._about['sha256'][:16]}-{self.seq_len}"

    def batch(self, ids: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns inputs_BT and targets_BT, both int64."""
        windows = self._tokens[ids[:, None] * self.seq_len + np.arange(self.seq_len + 1)]
        tokens = torch.from_numpy(windows.astype(np.int64))
        return tokens[:, :-1], tokens[:, 1:]

    @cached_property
    def _about(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.path.with_suffix(".json").read_text()))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: no readable .json beside it ({error}). Pack the tokens again.") from error

    @cached_property
    def _tokens(self) -> NDArray[Any]:
        return np.memmap(self.path, dtype=self._about["dtype"], mode="r")


def pack_tokens(arrays: Iterable[NDArray[Any]], path: Path) -> None:
    """Writes token arrays one after another into ``path``: aside, synced, renamed; then its ``.json``.

    Args:
        arrays: 1-D arrays of one dtype, uint8, uint16 or uint32.
        path: The file; an old one is replaced.

    Raises:
        InputError: If there is no array, or one of another dtype.
        StoreError: If the disk refuses.
    """
    digest, count, dtype = hashlib.sha256(), 0, None
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                for array in arrays:
                    if array.dtype.name not in DTYPES or dtype not in (None, array.dtype.name):
                        raise InputError(f"got tokens of {array.dtype.name}, expected one of {', '.join(DTYPES)}.")
                    dtype = array.dtype.name
                    data = array.tobytes()
                    digest.update(data)
                    count += array.size
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if dtype is None:
                raise InputError("got no tokens to pack.")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    about = {"dtype": dtype, "count": count, "sha256": digest.hexdigest()}
    replace_file(path.with_suffix(".json"), json.dumps(about).encode())
