"""A task whose training data can be slowed down, so that a signal comes in the middle of a run on any machine."""

import os
import time
from pathlib import Path

from support import ChainData, TinyLM, sequence_loss

from flops_fit.data import as_source
from flops_fit.tasks import Task, make_task


class PacedChain(ChainData):
    """Takes as many seconds for each sample as the file PACE_FILE said when the process began."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        file = os.environ.get("PACE_FILE")
        self.pace = 0.0 if file is None else float(Path(file).read_text())

    def __getitem__(self, i):
        if self.pace:
            time.sleep(self.pace)
        return super().__getitem__(i)


def paced_chain() -> Task:
    """Builds the task."""
    return make_task(
        TinyLM, "width", train_data=as_source(PacedChain(4096)), eval_data=as_source(ChainData(64, seed=1)),
        loss_fn=sequence_loss,
    )  # fmt: skip
