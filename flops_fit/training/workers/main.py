"""Worker process: loads the task once, then trains the trunks that it is assigned.

Started by `workers.process` as ``python -m flops_fit.training.workers.main DESCRIPTOR`` of a pipe. It receives a
`WorkerConfig`, then lists of experiment ids; it sends ``("ready",)``, ``("done", experiment_id)`` for each published
run, and ``("error", class, message)`` for an error that ends the sweep. Only our own two processes pickle messages.
"""

import logging
import os
import pickle
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from flops_fit.distributed import open_world
from flops_fit.errors import ContractError, FlopsFitError
from flops_fit.records import RunResult
from flops_fit.store import open_store
from flops_fit.tasks import Task
from flops_fit.training.settings import TrainSettings
from flops_fit.training.sweep import train_sweep


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker is started with."""

    root: Path
    """Folder of the sweep."""
    settings: TrainSettings
    make_task: bytes
    """A callable that returns the `Task`, pickled by `process.portable`."""
    threads: int
    """CPU threads of this process."""
    neighbours: int
    """Other workers that share its memory."""


def work(link: Connection) -> None:
    """Trains until the other end is closed.

    Raises:
        EOFError: When it is.
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
    experiments = {e.experiment_id: e for e in store.plan.experiments}

    def notify(result: RunResult, _: float | None) -> None:
        link.send(("done", result.experiment.experiment_id))

    with open_world(neighbours=config.neighbours) as world:
        link.send(("ready",))
        while True:
            runs = [experiments[name] for name in link.recv()]
            train_sweep(task, runs, store, world=world, settings=config.settings, progress=notify)


def main() -> None:
    """Serves the pipe whose descriptor is the only argument."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # As after an interrupt: the run's tracker is closed, and the run resumes from its checkpoint later.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    link = Connection(int(sys.argv[1]))
    try:
        work(link)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
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
