"""How is a file written so that it is there whole, or not at all?"""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from flops_fit.errors import StoreError


def publish(path: Path, data: bytes) -> bool:
    """Creates ``path`` with ``data``, whole and once: temporary file, sync, link.

    Returns:
        False if ``path`` was there already; it is then left as it is.

    Raises:
        StoreError: If the disk refuses; ``path`` does not exist then.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            with open(handle, "wb") as file:  # noqa: PTH123  (a descriptor, not a path)
                file.write(data)
                file.flush()
                os.fsync(handle)
            created = _link(temporary, path)
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        finally:
            temporary.unlink(missing_ok=True)
    return created


def replace_file(path: Path, data: bytes) -> None:
    """Writes ``path``, replacing an old one in one step; for files that can be made again.

    Raises:
        StoreError: If the disk refuses; the old file is then intact.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # On NFS the reply to a link that succeeded can be lost; two names of one file tell.
        return temporary.stat().st_nlink == 2
    return True


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError below into a StoreError that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        remedy = "Free some space" if error.errno == errno.ENOSPC else "Check the folder and its permissions"
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. What was published before is intact. "
            f"{remedy}, then run the same command again."
        ) from error
