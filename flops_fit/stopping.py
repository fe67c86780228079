"""How a process is stopped: requests by signal, the death of its parent, and the exit code that it leaves.

SIGTERM, SIGUSR1 and SIGINT ask a training process to checkpoint and end, between two steps. Signals belong to the
process, so this is the one place with state of the process. SLURM and torchrun send SIGTERM twice; only a second
SIGINT, not of the same key press, interrupts at once.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from flops_fit.errors import Preempted

ENDING = (signal.SIGTERM, signal.SIGUSR1)
# A key press reaches the launcher and its ranks, and the launcher sends it on.
SAME_PRESS_SECONDS = 1.0
PR_SET_PDEATHSIG = 1
# A folder for the exit codes of the processes that a launcher starts; launchers return 1 for all of them.
EXIT_CODES = "FLOPS_FIT_EXIT_CODES"

_asked: list[tuple[signal.Signals, float]] = []
_commands: list[bool] = []


def stop_requested() -> signal.Signals | None:
    """Returns the signal that asked this process to stop, None where none has."""
    return _asked[0][0] if _asked else None


@contextlib.contextmanager
def signals_request_stop() -> Iterator[None]:
    """Within this signals only leave a note for `stop_requested`; without effect outside the main thread.

    Raises:
        KeyboardInterrupt: At a second Ctrl-C.
    """
    _asked.clear()
    with handling((*ENDING, signal.SIGINT), _note):
        yield


@contextlib.contextmanager
def signals_end_command() -> Iterator[None]:
    """Within this, where nothing is trained, SIGTERM and SIGUSR1 raise `Preempted`; the process is `is_command`."""
    _commands.append(True)
    try:
        with handling(ENDING, _raise_preempted):
            yield
    finally:
        _commands.pop()


def is_command() -> bool:
    """Whether the process is the command's own, which may end it, and not one in which a user calls the library."""
    return bool(_commands)


def preempted_by(asked: signal.Signals) -> BaseException:
    """Returns the exception that ends a command after it has stopped."""
    if asked == signal.SIGINT:
        return KeyboardInterrupt()
    return Preempted(
        f"got {asked.name}: stopped; a run that was in progress has a checkpoint. Run the same command again to resume."
    )


def _note(number: int, _: FrameType | None) -> None:
    now = time.monotonic()
    if number == signal.SIGINT:
        presses = [at for asked, at in _asked if asked == signal.SIGINT]
        if presses and now - presses[0] > SAME_PRESS_SECONDS:
            raise KeyboardInterrupt
    _asked.append((signal.Signals(number), now))


def _raise_preempted(number: int, _: FrameType | None) -> None:
    raise Preempted(f"got {signal.Signals(number).name} while no run was in progress. Run the same command again.")


def signal_at_death_of_parent(number: signal.Signals) -> None:
    """Lets this process receive a signal when its parent dies, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)


def leave_exit_code(code: int) -> None:
    """Writes the exit code of this process where the command that started its launcher reads it, if one did."""
    folder = os.environ.get(EXIT_CODES)
    if folder is not None and Path(folder).is_dir():
        (Path(folder) / str(os.getpid())).write_text(str(code))


def end_process(code: int) -> NoReturn:
    """Ends this process from any of its threads, whatever the others do."""
    leave_exit_code(code)
    os._exit(code)


@contextlib.contextmanager
def handling(numbers: tuple[signal.Signals, ...], handle: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Within this a function handles signals; without effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
