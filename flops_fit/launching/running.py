"""Launcher processes: started, told to stop, and the exit codes of what they start, which they do not pass on.

torchrun and `accelerate launch` return 1 for whatever a process returned. So each process that is started here writes
its code into a folder (`report_exit_code`), and the command that started the launcher ends with what it finds there.
"""

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from flops_fit.errors import LaunchError, Preempted
from flops_fit.launching.commands import Command
from flops_fit.stopping import EXIT_CODES, handling, leave_exit_code, signal_at_death_of_parent

# The first that any process ended with is the command's: one that was stopped because of another's error says 75.
CODES_BY_WEIGHT = (2, 74, 1, 130, Preempted.exit_code, 3, 4, 0)
PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

logger = logging.getLogger(__name__)


def run_command(command: Command, *, should_restart: Callable[[], bool] = lambda: False) -> int:
    """Runs a launcher until it ends; returns the exit code that its processes agree on.

    Where processes were killed, hung or lost one another, all of them end; ``should_restart`` is then asked.

    SIGTERM, SIGUSR1 and SIGINT reach the launcher once, and it waits for its processes. Where this process is killed,
    the launcher is asked to stop.

    Args:
        command: Of the launcher.
        should_restart: Whether to start them again: something has been done since, and something is left.

    Raises:
        LaunchError: If it fails before one of its processes could report.
    """
    while True:
        try:
            code, was_asked = _run_once(command)
        except LaunchError as error:
            if not should_restart():
                raise
            logger.warning("%s Restarting it.", error)
            continue
        if code != Preempted.exit_code or was_asked or not should_restart():
            return code
        logger.warning("the processes ended unexpectedly; restarting them")


def _run_once(command: Command) -> tuple[int, bool]:
    """Returns the joint exit code, and whether a signal had asked for the end."""
    with tempfile.TemporaryDirectory(prefix="flops-fit-") as folder:
        # A session of its own: Ctrl-C is for this process, which passes it on. One thread, so preexec_fn is safe.
        with _passing_on() as relay, subprocess.Popen(
            command.argv, env=os.environ | command.environment | {EXIT_CODES: folder}, start_new_session=True,
            preexec_fn=_stop_with_parent,
        ) as process:  # fmt: skip
            relay.connect(process)
            code = process.wait()
        codes = [int(path.read_text()) for path in Path(folder).iterdir()]
    return _joint_code(codes, code, relay.received), bool(relay.received)


@contextlib.contextmanager
def report_exit_code() -> Iterator[None]:
    """Writes the exit code of this process for `run_command`, where that has started it."""
    try:
        yield
    except SystemExit as stop:
        leave_exit_code(stop.code if isinstance(stop.code, int) else int(stop.code is not None))
        raise


def _joint_code(codes: Sequence[int], launcher_code: int, received: Sequence[int]) -> int:
    for code in CODES_BY_WEIGHT:
        if code in codes:
            return code
    if received:
        return 130 if received[0] == signal.SIGINT else Preempted.exit_code
    if launcher_code == 0:
        return 0
    raise LaunchError(
        f"the launcher ended with code {launcher_code}, and none of its processes could say why: it did not start "
        "them, or they were killed (out of memory?). Its messages stand above."
    )


class _Relay:
    """Signals that this process receives, passed on to another one as soon as there is one."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    def connect(self, process: "subprocess.Popen[bytes]") -> None:
        """Passes on what came before the process was there, and from now on."""
        self._process = process
        for number in self.received[:1]:
            process.send_signal(number)

    def pass_on(self, number: int, _: FrameType | None) -> None:
        """Handles a signal."""
        self.received.append(number)
        # SLURM sends its signals to every process of a step, and torchrun gives up waiting at a second one.
        if self._process is not None and ("SLURM_STEP_ID" not in os.environ or len(self.received) > 1):
            self._process.send_signal(number)


@contextlib.contextmanager
def _passing_on() -> Iterator[_Relay]:
    relay = _Relay()
    with handling(PASSED_ON, relay.pass_on):
        yield relay


def _stop_with_parent() -> None:
    signal_at_death_of_parent(signal.SIGTERM)
