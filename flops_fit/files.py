"""Files that are there whole or not at all: written aside, synced, then linked or renamed into place."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from flops_fit.errors import StoreError

# A temporary file this old was left by a process that was killed, not by one that is writing now.
ABANDONED_SECONDS = 3600
# What file systems without hard links say: FAT, some of FUSE, and mounts of other machines' folders.
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")


def publish(path: Path, data: bytes) -> bool:
    """Creates ``path`` with ``data``, whole and once: temporary file, sync, link.

    Returns:
        False if ``path`` was there already; it is then left as it is.

    Raises:
        StoreError: If the disk refuses; ``path`` does not exist then.
    """
    temporary = _temporary(path)
    with storage_errors(path):
        _make_folder(path.parent)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            with open(handle, "wb") as file:  # noqa: PTH123  (a descriptor, not a path)
                file.write(data)
                file.flush()
                os.fsync(handle)
            created = _link(temporary, path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return created


def replace_file(path: Path, data: bytes) -> None:
    """Writes ``path``, replacing an old one in one step; for files that can be made again.

    Raises:
        StoreError: If the disk refuses, or ``path`` is a link, a device or a folder; what was there is then intact.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise StoreError(
            f"cannot write {path}: it is no plain file, and is not replaced. Give another name, or remove it."
        )
    temporary = _temporary(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def replace_large_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` make a file that need not fit into memory twice, syncs it and renames it to ``path``.

    It writes in a folder of its own beside ``path``, since safetensors makes a temporary file there itself. What
    killed processes left of earlier attempts is removed.

    Raises:
        StoreError: If the disk refuses; an old file is then intact.
    """
    aside = _temporary(path)
    with storage_errors(path):
        _make_folder(path.parent)
        for left in path.parent.glob(f".{path.name}.*"):
            if is_temporary(left) and time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        try:
            aside.mkdir()
            write(aside / path.name)
            # safetensors makes files that only their owner can read; others of a group need them too.
            (aside / path.name).chmod(aside.stat().st_mode & 0o666)
            sync(aside / path.name)
            (aside / path.name).replace(path)
            sync(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def publish_folder(path: Path, fill: Callable[[Path], object]) -> bool:
    """Lets ``fill`` write a folder's files, and creates ``path`` as that folder, whole and once: aside, sync, rename.

    Returns:
        False if ``path`` was there already; it is then left as it is.

    Raises:
        StoreError: If the disk refuses; ``path`` does not exist then.
    """
    aside = _temporary(path)
    with storage_errors(path):
        try:
            aside.mkdir(parents=True)
            fill(aside)
            for entry in (*aside.iterdir(), aside):
                sync(entry)
            created = _rename_folder(aside, path)
            sync(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return created


def is_temporary(path: Path) -> bool:
    """Whether this is a file of ours that is not in its place yet, or never came there."""
    return _TEMPORARY.fullmatch(path.name) is not None


def file_hash(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Waits until a file or a folder's entries are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _make_folder(path: Path) -> None:
    """Makes a folder and its parents; a new folder's name is synced too, or a file in it could be lost with it."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def _rename_folder(aside: Path, path: Path) -> bool:
    """A folder that is not empty is not replaced by renaming: who comes second is told."""
    try:
        aside.rename(path)
    except OSError:
        if not path.exists():
            raise
        return False
    return True


def links_work(folder: Path) -> bool:
    """Whether a file in ``folder`` can get a second name, and one that is taken is refused.

    Raises:
        OSError: If nothing can be written there.
    """
    first, second = folder / f".one.{uuid.uuid4().hex}", folder / f".two.{uuid.uuid4().hex}"
    try:
        first.touch()
        os.link(first, second)
        try:
            os.link(first, second)
        except FileExistsError:
            return True
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return False
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # On NFS the reply to a link that succeeded can be lost; two names of one file prove that it did.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # Of two processes at once both may believe to be first here: such a folder is for one (`claims.folder`).
        if path.exists():
            return False
        temporary.rename(path)
    return True


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError below, or that of safetensors' writer, into a StoreError that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, SafetensorError) as error:
        # safetensors gives no errno: its text is the only sign of a full disk, and only the advice depends on it.
        is_full = getattr(error, "errno", None) == errno.ENOSPC or "os error 28)" in str(error)
        remedy = "Free some space" if is_full else "Check the folder and its permissions"
        raise StoreError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or error}. What was published before is intact. "
            f"{remedy}, then run the same command again."
        ) from error
