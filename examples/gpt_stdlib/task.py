"""Builds the built-in task: reads the text, packs it once, and puts model, data and loss together."""

import hashlib
import sysconfig
from pathlib import Path

import numpy as np
from flops_fit.examples.gpt_stdlib.model import GPT, cross_entropy

from flops_fit.data import PackedTokens, pack_tokens
from flops_fit.errors import ConfigError
from flops_fit.tasks import Task, make_task

# Tests and tools that few machines have; leaving them out makes the corpus alike across distributions.
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"}


def build_task(
    *,
    text_dir: str | None = None,
    pattern: str = "**/*.py",
    held_out_fraction: float = 0.06,
    n_layer: int = 2,
    n_head: int = 2,
    seq_len: int = 64,
    cache_dir: str | None = None,
) -> Task:
    """Returns a byte-level GPT on text files.

    Args:
        text_dir: Folder to read; None for the standard library of the running Python.
        pattern: Which files of it, a glob.
        held_out_fraction: Share of the files (by hash of their content) that no run trains on.
        n_layer, n_head, seq_len: Shape of the model.
        cache_dir: Where the packed tokens are kept; None for ``~/.cache/flops-fit``.

    Raises:
        ConfigError: If the folder holds no text.
    """
    root = Path(text_dir or sysconfig.get_path("stdlib")).expanduser().resolve()
    train, held_out = split_by_file(read_texts(root, pattern), held_out_fraction)
    if not train or not held_out:
        raise ConfigError(
            f"task.options.text_dir: {root} has {len(train)} training and {len(held_out)} held-out files "
            f"matching {pattern!r}; expected at least one of each. Name a folder with more text files."
        )
    folder = Path(cache_dir).expanduser() if cache_dir else Path.home() / ".cache" / "flops-fit"
    return make_task(
        GPT,
        "d_model",
        {"n_layer": n_layer, "n_head": n_head, "vocab_size": 256, "seq_len": seq_len},
        train_data=_pack(train, folder, seq_len),
        eval_data=_pack(held_out, folder, seq_len),
        loss_fn=cross_entropy,
        name="gpt_stdlib" if text_dir is None else f"gpt on {root.name}",
    )


def read_texts(root: Path, pattern: str) -> list[bytes]:
    """Reads the files in the order of their paths, skipping folders that differ between machines."""
    paths = sorted(p for p in root.glob(pattern) if p.is_file())
    return [p.read_bytes() for p in paths if not SKIPPED & set(p.relative_to(root).parts[:-1])]


def split_by_file(texts: list[bytes], held_out_fraction: float) -> tuple[list[bytes], list[bytes]]:
    """Sends each file to one side by the hash of its content, so that no file is on both."""
    train: list[bytes] = []
    held_out: list[bytes] = []
    for text in texts:
        position = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
        (held_out if position < held_out_fraction else train).append(text)
    return train, held_out


def _pack(texts: list[bytes], folder: Path, seq_len: int) -> PackedTokens:
    digest = hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    path = folder / f"{digest}.bin"
    if not path.exists():
        # A zero byte ends each file, as an end-of-text token would.
        pack_tokens((np.frombuffer(text + b"\0", dtype=np.uint8) for text in texts), path)
    return PackedTokens(path, seq_len)
