"""Abilities of a folder's file system, on which several workers rely: tried out, not looked up."""

import contextlib
import errno
import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flops_fit.claims.worker import Worker, is_gone
from flops_fit.errors import InputError, LeaseHeld
from flops_fit.files import links_work, replace_file, storage_errors
from flops_fit.store import read_record, record_bytes

SOLE_WORKER = "claims/sole_worker.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FolderAbilities:
    """What a file system can do."""

    links: bool
    """Whether a second name of a file can be made, and is refused where the name is taken."""
    exclusive_creation: bool
    """Whether a file is created only where there is none."""
    replacement: bool
    """Whether a rename replaces a file in one step."""
    sync_seconds: float
    """To write a small file and wait for the disk."""
    free_bytes: int
    is_world_writable: bool

    @property
    def several_workers(self) -> bool:
        """Whether more than one worker may share the folder."""
        return self.links and self.replacement


def try_folder(root: Path) -> FolderAbilities:
    """Tries out a folder with files of its own, which it removes again.

    Raises:
        StoreError: If nothing can be written there.
    """
    place = root / f".doctor.{uuid.uuid4().hex}"
    with storage_errors(root):
        place.mkdir()
        try:
            started = time.perf_counter()
            replace_file(place / "one", b"1")
            with (place / "one").open("rb") as file:
                os.fsync(file.fileno())
            return FolderAbilities(
                links=links_work(place),
                exclusive_creation=_creates_exclusively(place / "two"),
                replacement=_replaces(place),
                sync_seconds=time.perf_counter() - started,
                free_bytes=shutil.disk_usage(root).free,
                is_world_writable=bool(root.stat().st_mode & stat.S_IWOTH),
            )
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def admitted(root: Path, worker: Worker) -> Iterator[bool]:
    """Within this the process may train in a folder; yields whether others may, too.

    Raises:
        LeaseHeld: If the folder has no links and another worker uses it.
        StoreError: If nothing can be written there.
    """
    folder = root / "claims"
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
        has_links = links_work(folder)
    if has_links:  # Outside: an OSError of the training is no error of this folder.
        yield True
        return
    path = root / SOLE_WORKER
    other = _sole_worker(path)
    if other is not None and not is_gone(other, worker):
        raise LeaseHeld(
            f"{root}: its file system has no hard links, so one worker alone may use it, and process {other.pid} on "
            f"{other.host} does. Wait for it, move the folder to a local disk, NFS or Lustre, or, if that process is "
            f"certainly gone, delete {path}."
        )
    logger.warning("%s: its file system has no hard links, so one worker alone trains in it.", root)
    replace_file(path, record_bytes(worker))
    try:
        yield False
    finally:
        path.unlink(missing_ok=True)


def _sole_worker(path: Path) -> Worker | None:
    try:
        return read_record(Worker, path) if path.exists() else None
    except InputError:
        return None


def _creates_exclusively(path: Path) -> bool:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError as error:
        return error.errno == errno.EEXIST
    return False


def _replaces(folder: Path) -> bool:
    (folder / "new").write_bytes(b"2")
    (folder / "new").replace(folder / "one")
    return (folder / "one").read_bytes() == b"2"
