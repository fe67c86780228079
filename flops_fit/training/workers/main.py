"""Worker process: loads the task once, then trains runs that no other worker holds.

Started by `workers.process` as ``python -m flops_fit.training.workers.main DESCRIPTOR`` of a pipe. It receives a
`WorkerConfig`; it sends ``("ready",)``, ``("start", experiment_id)`` and ``("done", experiment_id)`` for each run,
``("end",)`` when none is free, ``("preempted", message)`` after a signal, and ``("error", class, message)`` for an
error that ends the sweep. Only our own two processes pickle messages.
"""

import logging
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from flops_fit.distributed import open_world
from flops_fit.errors import ContractError, FlopsFitError, Preempted
from flops_fit.records import Experiment, RunResult
from flops_fit.stopping import signals_end_command, signals_request_stop
from flops_fit.store import open_store
from flops_fit.tasks import Task
from flops_fit.training.settings import TrainSettings
from flops_fit.training.sweep import train_sweep


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker is started with."""

    root: Path
    """Folder of the sweep."""
    runs: tuple[str, ...]
    """Ids of those to train."""
    retry: Mapping[str, int]
    """Newest attempt at each failed run that is to be tried once more."""
    settings: TrainSettings
    make_task: bytes
    """A callable that returns the `Task`, pickled by `process.portable`."""
    threads: int
    """CPU threads of this process."""
    neighbours: int
    """Other workers that share its memory."""


def work(link: Connection) -> None:
    """Trains until no run is free.

    Raises:
        Preempted: If a signal asked to stop.
        FlopsFitError: If the sweep cannot go on.
    """
    config: WorkerConfig = link.recv()
    torch.set_num_threads(config.threads)
    store = open_store(config.root)
    task: Task = pickle.loads(config.make_task)()
    if task.fingerprint != store.plan.task_fingerprint:
        raise ContractError(
            f"train.workers: a worker process got model, data and loss {task.fingerprint}, where the sweep has "
            f"{store.plan.task_fingerprint}: the task is not the same each time it is built. Seed its random "
            "draws, or use train.workers=1."
        )
    wanted = set(config.runs)

    def notify(result: RunResult, _: float | None) -> None:
        link.send(("done", result.experiment.experiment_id))

    def start(run: Experiment) -> None:
        link.send(("start", run.experiment_id))

    with open_world(neighbours=config.neighbours) as world, signals_request_stop():
        link.send(("ready",))
        train_sweep(
            task, [e for e in store.plan.experiments if e.experiment_id in wanted], store, world=world,
            settings=config.settings, progress=notify, on_start=start, retry=config.retry, wait=False,
        )  # fmt: skip


def main() -> None:
    """Serves the pipe whose descriptor is the only argument."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    link = Connection(int(sys.argv[1]))
    try:
        with signals_end_command():
            work(link)
        link.send(("end",))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Preempted as error:
        link.send(("preempted", str(error)))
        sys.exit(error.exit_code)
    except FlopsFitError as error:
        link.send(("error", type(error).__name__, str(error)))
    except Exception:
        link.send(("error", "RuntimeError", f"a worker process raised:\n{traceback.format_exc()}"))


def _end_with_parent() -> None:
    """Exits with the parent, however that ended: nothing is written to standard input, so it closes only then."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
