"""The built-in task: text packed once, and put together with model and loss."""

import hashlib
import sysconfig
from pathlib import Path

import numpy as np
from flops_fit.examples.gpt_stdlib.model import GPT, cross_entropy
from flops_fit.examples.gpt_stdlib.text import (
    TASK_OPTIONS,
    SettingNames,
    read_standard_library,
    read_user_text,
    split_by_file,
    split_text,
)

from flops_fit.data import PackedTokens, pack_tokens
from flops_fit.errors import ConfigError
from flops_fit.tasks import Task, make_task


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
        text_dir: A text file, or a folder of them; None for the standard library of the running Python. A folder of
            100 files or more is split by file. Fewer files are cut into blocks of 4096 bytes (or 16 windows, where
            that is more), and the blocks with the lowest hashes are held out.
        pattern: Which files of a folder, a glob.
        held_out_fraction: Share of the text (chosen by hash of its content) that no run trains on.
        n_layer, n_head, seq_len: Shape of the model.
        cache_dir: Where the packed tokens are kept; None for ``~/.cache/flops-fit``.

    Raises:
        ConfigError: If the text is missing, empty, not UTF-8 or too short.
    """
    train, held_out = load_text(
        text_dir=text_dir, pattern=pattern, held_out_fraction=held_out_fraction, seq_len=seq_len, cache_dir=cache_dir
    )
    return make_task(
        GPT,
        "d_model",
        {"n_layer": n_layer, "n_head": n_head, "vocab_size": 256, "seq_len": seq_len},
        train_data=train,
        eval_data=held_out,
        loss_fn=cross_entropy,
        name="gpt_stdlib" if text_dir is None else f"gpt on {Path(text_dir).expanduser().resolve().name}",
    )


def load_text(
    *,
    text_dir: str | None = None,
    pattern: str = "**/*.py",
    held_out_fraction: float = 0.06,
    seq_len: int = 64,
    cache_dir: str | None = None,
    names: SettingNames = TASK_OPTIONS,
) -> tuple[PackedTokens, PackedTokens]:
    """Returns training and held-out bytes of a text, packed once; arguments and errors as of `build_task`.

    Args:
        names: What the caller's users call ``text_dir`` and ``pattern``, for messages.
    """
    if not 0 < held_out_fraction < 1:
        raise ConfigError(
            f"task.options.held_out_fraction: got {held_out_fraction}, expected a number between 0 and 1."
        )
    root = Path(text_dir or sysconfig.get_path("stdlib")).expanduser().resolve()
    if text_dir is None:
        train, held_out = split_by_file(read_standard_library(root, pattern), held_out_fraction)
        if not train or not held_out:
            raise ConfigError(
                f"{root} has {len(train)} training and {len(held_out)} held-out files that match {pattern!r}; "
                f"expected at least one of each. Name your own text with {names.text}."
            )
    else:
        texts = read_user_text(root, pattern, names)
        train, held_out = split_text(texts, held_out_fraction, seq_len=seq_len, where=f"{names.text}: {root}")
    folder = Path(cache_dir).expanduser() if cache_dir else Path.home() / ".cache" / "flops-fit"
    return _pack(train, folder, seq_len), _pack(held_out, folder, seq_len)


def _pack(texts: list[bytes], folder: Path, seq_len: int) -> PackedTokens:
    digest = hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    path = folder / f"{digest}.bin"
    if not path.exists():
        # A zero byte ends each file, as an end-of-text token would.
        pack_tokens((np.frombuffer(text + b"\0", dtype=np.uint8) for text in texts), path)
    return PackedTokens(path, seq_len)
