"""A small run to train in a second."""

import pytest
from support import ChainData, TinyLM, sequence_loss

from flops_fit.data import as_source
from flops_fit.distributed import open_world
from flops_fit.tasks import make_task


@pytest.fixture
def tiny_task():
    return make_task(
        TinyLM, "width", train_data=as_source(ChainData()), eval_data=as_source(ChainData(64, seed=1)),
        loss_fn=sequence_loss,
    )  # fmt: skip


@pytest.fixture
def world():
    with open_world() as opened:
        yield opened
