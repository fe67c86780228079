"""Text of the built-in task: the files that are read, and the split into training and held-out text."""

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flops_fit.errors import ConfigError

logger = logging.getLogger(__name__)

# Tests and tools that few machines have; leaving them out makes the corpus alike across distributions.
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
MANY_FILES = 100
"""From here on a split by file holds out enough of them: with 0.06 of 100, none at all has a chance of 0.2 %."""
BLOCK_BYTES = 4096
"""Of the blocks that few files are cut into; a block is at least 16 windows long."""


@dataclass(frozen=True, kw_only=True)
class SettingNames:
    """What users call the settings of a text, for messages."""

    text: str
    pattern: str


TASK_OPTIONS = SettingNames(text="task.options.text_dir", pattern="task.options.pattern")


def read_user_text(path: Path, pattern: str, names: SettingNames = TASK_OPTIONS) -> list[bytes]:
    """Reads a text file, or the files of a folder that match ``pattern``.

    Raises:
        ConfigError: If there is no text, or a file is not UTF-8.
    """
    where = f"{names.text}: {path}"
    if not path.exists():
        raise ConfigError(f"{where} does not exist. Name a text file or a folder of text files.")
    try:
        texts = {path: path.read_bytes()} if path.is_file() else _read_folder(path, pattern)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror} ({error.filename}).") from error
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"{names.pattern}: got {pattern!r}, expected a glob such as '**/*.txt': {error}.") from error
    if not texts:
        raise ConfigError(f"{where} has no files that match {pattern!r}. {_describe_endings(path, names)}")
    texts = {file: text for file, text in texts.items() if text.strip()}
    if not texts:
        raise ConfigError(f"{where} has no text: what matches {pattern!r} is empty. Name files with text in them.")
    for file, text in texts.items():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{where}: {file.name} is not UTF-8 text (byte {error.start}). Convert it to UTF-8, or leave it out "
                f"with {names.pattern}."
            ) from error
    return list(texts.values())


def read_standard_library(root: Path, pattern: str) -> list[bytes]:
    """Reads the sources of Python's standard library under ``root``, in whatever encoding they are."""
    return list(_read_folder(root, pattern).values())


def split_text(
    texts: list[bytes], held_out_fraction: float, *, seq_len: int, where: str
) -> tuple[list[bytes], list[bytes]]:
    """Splits a user's text: many files by file, few files by blocks of their content.

    Files are few where there are under 100 of them, or where one is so large that a split by file would hold out less
    than half of the fraction, or more than twice of it.

    Args:
        texts: Content of the files.
        held_out_fraction: Share of the text to hold out, between 0 and 1.
        seq_len: T, tokens (bytes) of a window.
        where: Setting and path of the text, for messages.

    Raises:
        ConfigError: If there is too little text for both sides.
    """
    total = sum(map(len, texts))
    if len(texts) >= MANY_FILES:
        train, held_out = split_by_file(texts, held_out_fraction)
        share = sum(map(len, held_out)) / total
        if train and held_out_fraction / 2 <= share <= held_out_fraction * 2:
            logger.info(
                "text_dir: %d files split by file: %d for training, %d held out (%.1f%% of the text).",
                len(texts), len(train), len(held_out), 100 * share,
            )  # fmt: skip
            return train, held_out
    return _split_by_block(texts, held_out_fraction, max(BLOCK_BYTES, 16 * seq_len), where)


def split_by_file(texts: list[bytes], held_out_fraction: float) -> tuple[list[bytes], list[bytes]]:
    """Sends each file to one side by the hash of its content, so that no file is on both."""
    train: list[bytes] = []
    held_out: list[bytes] = []
    for text in texts:
        (held_out if _position(text) < held_out_fraction else train).append(text)
    return train, held_out


def _split_by_block(
    texts: list[bytes], held_out_fraction: float, block_bytes: int, where: str
) -> tuple[list[bytes], list[bytes]]:
    """Cuts files into blocks and holds out those of the lowest hashes, so that equal blocks are on one side.

    Windows are made of either side by itself and never cross a block border from one side to the other.
    """
    blocks = [[text[k : k + block_bytes] for k in range(0, len(text), block_bytes)] for text in texts]
    total = sum(map(len, texts))
    needed = round(block_bytes / min(held_out_fraction, 1 - held_out_fraction))
    if total < needed:
        raise ConfigError(
            f"{where} has {total:,} bytes of text, expected at least {needed:,}, so that "
            f"held_out_fraction={held_out_fraction:g} of it is a block of {block_bytes:,} bytes. Add text."
        )
    chosen: set[bytes] = set()
    held_out_bytes = 0
    sizes = Counter(block for cut in blocks for block in cut)
    for block in sorted(sizes, key=lambda b: (_position(b), b)):
        if held_out_bytes >= held_out_fraction * total:
            break
        chosen.add(block)
        held_out_bytes += len(block) * sizes[block]
    train, held_out = ([piece for cut in blocks for piece in _pieces(cut, chosen, side)] for side in (False, True))
    if not held_out_bytes <= total / 2 + block_bytes:
        raise ConfigError(
            f"{where} repeats itself: only {len(sizes)} blocks of {block_bytes:,} bytes differ, "
            "so a held-out text would also be trained on. Remove the copies."
        )
    logger.info(
        "text_dir: %d files split into %d blocks of %d bytes: %.1f%% of the text is held out.",
        len(texts), sum(map(len, blocks)), block_bytes, 100 * held_out_bytes / total,
    )  # fmt: skip
    return train, held_out


def _pieces(blocks: list[bytes], chosen: set[bytes], held_out: bool) -> Iterator[bytes]:
    """Joins neighbouring blocks of one side, so that a text is cut only where the other side begins."""
    piece: list[bytes] = []
    for block in blocks:
        if (block in chosen) == held_out:
            piece.append(block)
        elif piece:
            yield b"".join(piece)
            piece = []
    if piece:
        yield b"".join(piece)


def _position(content: bytes) -> float:
    """A number from 0 to 1 that follows from the content alone."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64


def _read_folder(root: Path, pattern: str) -> dict[Path, bytes]:
    """The files in the order of their paths, without folders that differ between machines."""
    paths = sorted(p for p in root.glob(pattern) if p.is_file())
    return {p: p.read_bytes() for p in paths if not SKIPPED & set(p.relative_to(root).parts[:-1])}


def _describe_endings(root: Path, names: SettingNames) -> str:
    endings = Counter(p.suffix for p in itertools.islice(root.rglob("*"), 10_000) if p.is_file())
    if not endings:
        return "The folder is empty. Name one with text files."
    ending, count = endings.most_common(1)[0]
    return f"It has {count} of *{ending}; for those set '{names.pattern}=**/*{ending}'."
