"""A model whose middle width breaks, dies or talks: what a worker process may meet. Workers import it by name."""

import os
import signal
import sys
from pathlib import Path

import torch
from support import ChainData, TinyLM, sequence_loss

from flops_fit.data import as_source
from flops_fit.tasks import make_task

MOODY_WIDTH = 12


class Moody(TinyLM):
    def __init__(self, width, folder=""):
        super().__init__(width)
        self.folder, self.steps = Path(folder), 0

    def forward(self, tokens_BT):
        # Neither while FLOPs are counted, nor on held-out data.
        if self.training and type(tokens_BT) is torch.Tensor and self.embed.embedding_dim == MOODY_WIDTH:
            self.steps += 1
            self.act()
        return super().forward(tokens_BT)

    def act(self):
        """Nothing, in the best of moods."""


class Broken(Moody):
    def act(self):
        raise RuntimeError("this width is cursed")


class Deadly(Moody):
    def act(self):
        if self.steps > 3:
            os.kill(os.getpid(), signal.SIGKILL)


class DeadlyOnce(Moody):
    def act(self):
        if self.steps > 3 and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Waiting(Moody):
    def act(self):
        """Talks, and waits to be stopped; not in its second life."""
        sys.stdout.write("a line of the model's own\n")
        pids = self.folder / "pids"
        while self.steps > 3 and not (self.folder / "go").exists():
            pids.mkdir(exist_ok=True)
            (pids / str(os.getpid())).touch()
            signal.sigtimedwait([], 0.05)


def build(mood="Moody", seed=0, **kwargs):
    return make_task(
        globals()[mood], "width", kwargs, train_data=as_source(ChainData(seed=seed)),
        eval_data=as_source(ChainData(64, seed=1)), loss_fn=sequence_loss,
    )  # fmt: skip


def build_anew(mood="Moody"):
    """Not the same each time."""
    return build(mood, seed=os.getpid())
