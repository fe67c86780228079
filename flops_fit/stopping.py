"""Requests to stop: SIGTERM, SIGUSR1 and SIGINT ask a training process to checkpoint and end, between two steps.

Signals belong to the process, so this is the one place with state of the process. SLURM and torchrun send SIGTERM
twice; only a second SIGINT, not of the same key press, interrupts at once.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from flops_fit.errors import Preempted

ENDING = (signal.SIGTERM, signal.SIGUSR1)
# A key press reaches the launcher and its ranks, and the launcher sends it on.
SAME_PRESS_SECONDS = 1.0

_asked: list[tuple[signal.Signals, float]] = []
_commands: list[bool] = []


def stop_asked() -> signal.Signals | None:
    """Returns the signal that asked this process to stop, None where none has."""
    return _asked[0][0] if _asked else None


@contextlib.contextmanager
def signals_ask_to_stop() -> Iterator[None]:
    """Within this signals only leave a note for `stop_asked`; without effect outside the main thread.

    Raises:
        KeyboardInterrupt: At a second Ctrl-C.
    """
    _asked.clear()
    with _handlers((*ENDING, signal.SIGINT), _note):
        yield


@contextlib.contextmanager
def signals_end_command() -> Iterator[None]:
    """Within this, where nothing is trained, SIGTERM and SIGUSR1 raise `Preempted`; the process is `is_command`."""
    _commands.append(True)
    try:
        with _handlers(ENDING, _raise_preempted):
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
        f"got {asked.name}: stopped between two steps, with a checkpoint. Run the same command again: it goes on there."
    )


def _note(number: int, _: FrameType | None) -> None:
    now = time.monotonic()
    if number == signal.SIGINT:
        presses = [at for asked, at in _asked if asked == signal.SIGINT]
        if presses and now - presses[0] > SAME_PRESS_SECONDS:
            raise KeyboardInterrupt
    _asked.append((signal.Signals(number), now))


def _raise_preempted(number: int, _: FrameType | None) -> None:
    raise Preempted(f"got {signal.Signals(number).name} while nothing was trained. Run the same command again.")


@contextlib.contextmanager
def _handlers(numbers: tuple[signal.Signals, ...], handle: object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
