"""One of several processes that train a sweep: it loads the task once, then trains the chains that it is given.

Started by `workers.process` as ``python -m flops_fit.training.workers.main DESCRIPTOR`` of a pipe. It receives
`Orders`, then lists of experiment ids; it sends ``("ready",)``, ``("done", experiment_id)`` for each published run, and
``("error", class, message)`` for what ends the whole sweep. Messages are pickled values of our own two processes.
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
class Orders:
    """What a worker needs to know before it can train."""

    root: Path
    """Folder of the sweep."""
    settings: TrainSettings
    make_task: bytes
    """A callable that returns the `Task`, pickled by `worker_process.portable`."""
    threads: int
    """CPU threads of this process."""
    neighbours: int
    """Other workers that take of the same memory."""


def work(link: Connection) -> None:
    """Trains until the other end is closed.

    Raises:
        EOFError: When it is.
        FlopsFitError: If the sweep cannot go on.
    """
    orders: Orders = link.recv()
    torch.set_num_threads(orders.threads)
    store = open_store(orders.root)
    task: Task = pickle.loads(orders.make_task)()
    if task.fingerprint != store.plan.task_fingerprint:
        raise ContractError(
            f"train.workers: a worker process got model, data and loss {task.fingerprint}, where the sweep has "
            f"{store.plan.task_fingerprint}: they are not the same each time they are made. Seed what is drawn when "
            "they are, or use train.workers=1."
        )
    experiments = {e.experiment_id: e for e in store.plan.experiments}

    def tell(result: RunResult, _: float | None) -> None:
        link.send(("done", result.experiment.experiment_id))

    with open_world(neighbours=orders.neighbours) as world:
        link.send(("ready",))
        while True:
            chain = [experiments[name] for name in link.recv()]
            train_sweep(task, chain, store, world=world, settings=orders.settings, progress=tell)


def main() -> None:
    """Serves the pipe whose descriptor is the only argument."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # As after an interrupt: a tracker of the run is closed, the run goes on from its checkpoint some other time.
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
    """Nobody writes to the standard input: it ends when the parent does, however that came."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
