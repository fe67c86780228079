"""Faults of file calls: the process is killed, or gets an error, at the N-th link, rename, unlink, fsync, write, ...

The functions of `os` and `open` are wrapped within one process that is made for it, so that a run can be repeated with
the fault at each of its calls in turn. Calls are counted only below one folder.
"""

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CALLS = ("link", "rename", "replace", "unlink", "mkdir", "fsync", "open")
"""Of `os`; "read" stands for an open that only reads, and "write" and "close" are those of open files."""
WRITING = ("open", "write", "mkdir", "link", "fsync", "close")
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "ESTALE": errno.ESTALE, "EDQUOT": errno.EDQUOT}
KILLS = ("before", "halfway", "after")
FULL = ("ENOSPC", "EDQUOT")
"""Errors of writing calls only; the disk then stays full until the process ends."""
LOST_REPLY = "EEXIST after success"


@dataclass
class FileFaults:
    """What happens at the N-th call; without a fault the calls are only recorded.

    Args:
        root: Calls on paths below it count.
        at: Number of the call, from 0; None for none.
        fault: One of `KILLS`, of `ERRORS`, or `LOST_REPLY` for a link that succeeded and says otherwise.
    """

    root: Path
    at: int | None = None
    fault: str = ""
    calls: list[str] = field(default_factory=list)
    """Names of the calls so far."""
    _handles: set[int] = field(default_factory=set)
    _is_full: bool = False

    def install(self) -> None:
        """Wraps the calls, for the rest of this process' life."""
        for name in CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        true_open = io.open
        io.open = builtins.open = lambda file, mode="r", *a, **k: self._open(true_open, file, mode, *a, **k)

    def _wrapped(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **options: Any) -> Any:
            if not self._counts(first):
                return act(first, *rest, **options)
            is_read = name == "open" and not rest[0] & (os.O_WRONLY | os.O_RDWR)
            value = self._fail_or("read" if is_read else name, lambda: act(first, *rest, **options))
            if name == "open":
                self._handles.add(value)
            return value

        return call

    def _open(self, act: Callable[..., Any], file: Any, mode: str, *rest: Any, **options: Any) -> Any:
        if not self._counts(file):
            return act(file, mode, *rest, **options)
        opened = act(file, mode, *rest, **options) if isinstance(file, int) else None
        writes = bool(set(mode) & set("wax+"))
        opened = opened or self._fail_or("open" if writes else "read", lambda: act(file, mode, *rest, **options))
        return _Written(self, opened) if writes else opened

    def _counts(self, target: Any) -> bool:
        if isinstance(target, int):
            return target in self._handles
        return os.fspath(target).startswith(os.fspath(self.root)) if isinstance(target, (str, Path)) else False

    def _fail_or(self, name: str, act: Callable[[], Any], half: Callable[[], object] = lambda: None) -> Any:
        self.calls.append(name)
        if self._is_full and name in WRITING:
            raise OSError(ERRORS[self.fault], os.strerror(ERRORS[self.fault]))
        if self.at != len(self.calls) - 1:
            return act()
        if self.fault in ERRORS:
            self._is_full = self.fault in FULL
            raise OSError(ERRORS[self.fault], os.strerror(ERRORS[self.fault]))
        if self.fault == LOST_REPLY:
            act()
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if self.fault == "halfway":
            half()
        elif self.fault == "after":
            act()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


class _Written:
    """An open file whose writes can fail."""

    def __init__(self, faults: FileFaults, file: Any) -> None:
        self._faults, self._file = faults, file

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        return self._faults._fail_or("write", lambda: self._file.write(data), half)

    def close(self) -> None:
        try:
            self._faults._fail_or("close", self._file.flush)
        finally:
            self._file.close()

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def faults_of(call: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the kills and the errors that can happen at a call."""
    errors = tuple(name for name in ERRORS if call in WRITING or name not in FULL)
    kills = KILLS if call == "write" else ("before", "after")
    return ("before",) if call == "read" else kills, (*errors, LOST_REPLY) if call == "link" else errors
