"""Worker as its parent sees it: started, assigned runs, stopped."""

import contextlib
import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from flops_fit.errors import ConfigError
from flops_fit.tasks import Task

# Set by launchers; removed, since a worker is a world of its own.
LAUNCHER_VARIABLES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
# A worker asked to stop does so between two steps, with a checkpoint; after this long it is killed.
GRACE_SECONDS = 30.0
# Where a person waits at the keyboard.
INTERRUPT_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one of several workers computes."""

    threads: int
    """CPU threads."""
    gpu: str | None
    """As CUDA_VISIBLE_DEVICES names it; None for all there are, or none."""
    neighbours: int
    """Other workers on the same GPU, or on the same host where there is none."""


def places(count: int) -> list[Place]:
    """Divides this process' CPU threads among ``count`` workers, and assigns them to the visible GPUs in turn."""
    threads = max(1, torch.get_num_threads() // count)
    gpus: list[str | None] = list(_visible_gpus()) or [None]
    return [
        Place(
            threads=threads,
            gpu=gpus[i % len(gpus)],
            neighbours=len(range(i % len(gpus), count, len(gpus))) - 1,
        )
        for i in range(count)
    ]


class WorkerProcess:
    """A running worker.

    Args:
        place: Where it computes.
        config: The arguments of `main.WorkerConfig` that are the same for all workers.
    """

    def __init__(self, place: Place, **config: Any) -> None:
        # Not at the top: that module is the other process' program.
        from flops_fit.training.workers.main import WorkerConfig

        self.place = place
        self.run: str | None = None
        """Id of the run in hand."""
        self.is_ready = False
        self.has_ended = False
        """Whether it found nothing more to train."""
        self.link, theirs = Pipe()
        # A session of its own: Ctrl-C is for this process, which then stops its workers.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flops_fit.training.workers.main", str(theirs.fileno())],
            stdin=subprocess.PIPE, stdout=2, pass_fds=[theirs.fileno()], env=_environment(place),
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        with contextlib.suppress(OSError):  # A dead worker is noticed when it is read.
            self.link.send(WorkerConfig(threads=place.threads, neighbours=place.neighbours, **config))

    def receive(self) -> tuple[str, ...] | None:
        """Waits for its next message; None if it has ended."""
        try:
            message: tuple[str, ...] = self.link.recv()
        except (EOFError, OSError):
            return None
        return message

    def describe_end(self) -> str:
        """Describes how the process ended."""
        code = self.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it."""
        return (self.process.poll() or 0) < 0

    def wait(self, seconds: float = GRACE_SECONDS) -> int:
        """Waits for its end; kills it, and what it started, after a while."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait()

    def kill(self) -> None:
        """Kills it and all processes of its session, also where they are stopped."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def stop(workers: Sequence[WorkerProcess], *, seconds: float = GRACE_SECONDS) -> None:
    """Ends workers, between two steps and with a checkpoint where they train, and waits for them.

    Args:
        workers: To end.
        seconds: To wait for all of them before they are killed.
    """
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + seconds
    for worker in workers:
        worker.wait(max(0.1, until - time.monotonic()))
        worker.link.close()
        assert worker.process.stdin is not None
        worker.process.stdin.close()


def portable(make_task: Callable[[], Task]) -> bytes:
    """Pickles what another process builds the task from: values, and names of classes and functions.

    Raises:
        ConfigError: If that process could not import one of them, or a value cannot be pickled.
    """
    buffer = io.BytesIO()
    try:
        _NamesOnly(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(make_task)
    except ConfigError:
        raise
    except Exception as error:  # Pickling fails with many types of error.
        raise _not_portable(str(error)) from error
    return buffer.getvalue()


def is_portable(make_task: Callable[[], Task]) -> bool:
    """Whether another process can build the task."""
    try:
        portable(make_task)
    except ConfigError as error:
        logger.info("training in this process alone: %s", error)
        return False
    return True


class _NamesOnly(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, (type, FunctionType)) and thing.__module__ == "__main__":
            raise _not_portable(f"{thing.__qualname__} is defined in a notebook or in the script that was started")
        return NotImplemented


def _not_portable(reason: str) -> ConfigError:
    return ConfigError(
        f"train.workers: got more than one, and {reason}. Worker processes build model, data and loss again, so these "
        "must come from a module that can be imported. Move them into a file of their own and import them from there, "
        "or use train.workers=1."
    )


def _visible_gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


def _environment(place: Place) -> dict[str, str]:
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in LAUNCHER_VARIABLES and not key.startswith("TORCHELASTIC_")
    }
    kept["PYTHONPATH"] = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    kept["OMP_NUM_THREADS"] = str(place.threads)
    # Spinning threads slow down every other process on a full machine.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if place.gpu is not None:
        kept["CUDA_VISIBLE_DEVICES"] = place.gpu
    return kept
