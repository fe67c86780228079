"""Heartbeats of an attempt, and the watch over its progress, in a thread beside the training."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from flops_fit.claims.attempt import Attempt, Beat
from flops_fit.errors import Preempted, StoreError
from flops_fit.stopping import end_process, is_command, stop_requested

logger = logging.getLogger(__name__)
# Attempts that this process is making. One that it left by an error is nobody's, though the process still runs.
_ACTIVE: set[tuple[Path, str, int]] = set()


def is_active_here(root: Path, name: str, attempt: int) -> bool:
    """Whether this process is making an attempt at the run ``name`` now."""
    return (root, name, attempt) in _ACTIVE


@dataclass(frozen=True, kw_only=True)
class Lease:
    """How long a claim holds."""

    seconds: float = 600.0
    """Without a new heartbeat, by the observer's clock; well over the cache time of network file systems."""

    @property
    def beat_seconds(self) -> float:
        """Between two heartbeats."""
        return self.seconds / 10


class Hold:
    """What a training process knows of its right to go on: not superseded, not asked to stop, making progress.

    Within it a thread beats for the attempt. It stops beating, and ends the process where that is the command's own,
    when no progress is noted for ``stall_seconds``: a process that hangs in a collective call, or in a read, would
    otherwise hold its run, and its device, for ever.

    Args:
        attempt: That this process makes; None for a rank that follows the main one, or a run without a store.
        lease: Of all workers of the folder.
        stall_seconds: Without progress; None for no watch.
    """

    def __init__(
        self,
        attempt: Attempt | None = None,
        *,
        lease: Lease | None = None,
        stall_seconds: float | None = None,
    ) -> None:
        self.attempt = attempt
        self.steps = 0
        """Steps done."""
        self.first_step: int | None = None
        self._lease, self._stall_seconds = lease or Lease(), stall_seconds
        self._started = self._progressed = self._beaten = time.monotonic()
        self._count = 0
        self._is_superseded = False
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def tick(self, steps: int | None = None) -> None:
        """Notes progress: a step, a part of an evaluation, a checkpoint."""
        self._progressed = time.monotonic()
        if steps is not None:
            if self.first_step is None:
                self.first_step = steps
            self.steps = steps

    @property
    def is_superseded(self) -> bool:
        """Whether another worker had taken over when the heart last looked."""
        return self._is_superseded

    @property
    def must_stop(self) -> bool:
        """Whether a signal asks this process to stop, or the attempt is superseded."""
        return self._is_superseded or stop_requested() is not None

    @property
    def seconds(self) -> float:
        """Since the attempt began."""
        return time.monotonic() - self._started

    def look(self) -> None:
        """Looks at the folder for another worker's attempt or result, as before something is written."""
        if self.attempt is not None and self.attempt.is_superseded():
            self._is_superseded = True

    @contextlib.contextmanager
    def unless_superseded(self) -> Iterator[None]:
        """Within this a checkpoint is written, whose folder another worker that has taken over may have removed.

        Raises:
            StoreError: If the disk refuses for any other reason.
        """
        try:
            yield
        except StoreError as error:
            self.look()
            if not self._is_superseded:
                raise
            logger.warning("no checkpoint, since another worker has taken over: %s", error)

    def __enter__(self) -> Self:
        _ACTIVE.update(self._key)
        self._beat()
        if self.attempt is not None or self._stall_seconds is not None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="flops-fit heart")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        _ACTIVE.difference_update(self._key)
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def _key(self) -> set[tuple[Path, str, int]]:
        made = self.attempt
        return set() if made is None else {(made.store.root, made.experiment.experiment_id, made.number)}

    def _run(self) -> None:
        beat_seconds = self._lease.beat_seconds
        pause = min(beat_seconds, (self._stall_seconds or beat_seconds) / 10)
        while not self._done.wait(pause):
            if self._stall_seconds is not None and time.monotonic() - self._progressed > self._stall_seconds:
                self._stall()
                return
            if time.monotonic() - self._beaten >= beat_seconds:
                self._beat()

    def _beat(self) -> None:
        if self.attempt is None:
            return
        self._count += 1
        first = self.first_step or 0
        try:
            self.look()
            self.attempt.beat(Beat(count=self._count, steps=self.steps, seconds=self.seconds, first_step=first))
            self._beaten = time.monotonic()
        except OSError as error:
            logger.warning("heartbeat not written: %s", error)
            # Others take over soon: stop before they do.
            if time.monotonic() - self._beaten > self._lease.seconds - 2 * self._lease.beat_seconds:
                self._is_superseded = True

    def _stall(self) -> None:
        reason = f"no progress for {self._stall_seconds:.0f} s (train.stall_seconds) after step {self.steps}."
        logger.error("%s", reason)
        if self.attempt is not None and is_command():
            try:
                self.attempt.end("stalled", reason, steps=self.steps, seconds=self.seconds)
            except OSError as error:
                logger.error("%s", error)
        if is_command():
            end_process(Preempted.exit_code)
