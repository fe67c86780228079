"""A small run to train in a second."""

from dataclasses import replace

import pytest
from conftest import ChainData, TinyLM, sequence_loss

from flops_fit.data import as_source
from flops_fit.launching import open_world
from flops_fit.records import Experiment, Recipe
from flops_fit.tasks import make_task

RECIPE = Recipe(batch_tokens=128, learning_rate=0.01, warmup_tokens=256, schedule="wsd")


def make_experiment(**changes):
    values = {
        "experiment_id": "tiny", "compute_budget": 1e6, "size_param_value": 8, "num_params": 344,
        "num_params_non_embedding": 216, "num_tokens": 16 * 150, "flops_per_token": 1200.0,
        "measured_flops_per_token": 1200.0, "tokens_per_sample": 16, "recipe": RECIPE, "seed": 0,
    }  # fmt: skip
    recipe = {k: changes.pop(k) for k in list(changes) if k in Recipe.__dataclass_fields__}
    return Experiment(**(values | {"recipe": replace(RECIPE, **recipe)} | changes))


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
