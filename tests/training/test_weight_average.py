"""The moving average of the weights: what it is, and that nothing but the recipe changes it."""

import math

import numpy as np
import pytest
import torch
from support import ChainData, Interrupted, TinyLM, make_experiment, sequence_loss
from torch import nn

from flops_fit.data import as_source
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_experiment
from flops_fit.training.order import sample_ids
from flops_fit.training.weight_average import WeightAverage


@pytest.fixture
def train(tiny_task, world, tmp_path):
    def run(folder="run", task=tiny_task, *, length=16 * 150, recipe=None, **settings):
        (tmp_path / folder).mkdir(exist_ok=True)
        experiment = make_experiment(num_tokens=length, **{"ema_decay": 0.9, **(recipe or {})})
        settings = TrainSettings(compile="never", **settings)
        return train_experiment(task, experiment, tmp_path / folder, world=world, settings=settings)

    return run


# At 0.3 the decay is reached within the run, in step 3; at 0.999 it is not.
@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_loss_is_that_of_the_average_of_a_plain_loop(train, tiny_task, decay):
    recipe = {"schedule": "constant", "warmup_tokens": 0, "max_grad_norm": None, "weight_decay": 0.0}
    result = train(length=16 * 40, recipe={**recipe, "ema_decay": decay}, precision="fp32")
    torch.manual_seed(0)
    model = TinyLM(8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    average = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    ids = sample_ids(0, 0, 40, 512)
    for step in range(5):
        inputs, targets = tiny_task.train_data.batch(ids[8 * step : 8 * step + 8])
        sequence_loss(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        keep = min(decay, (2 + step) / (11 + step))
        for name, p in model.named_parameters():
            average[name] = keep * average[name] + (1 - keep) * p.detach().double()
    inputs, targets = tiny_task.eval_data.batch(np.arange(64))
    last = sequence_loss(model(inputs), targets).item()
    model.load_state_dict(average)
    expected = sequence_loss(model(inputs), targets).item()
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert not math.isclose(expected, last, rel_tol=1e-3)


def test_the_weights_are_trained_as_without_it(train):
    assert train("with").train_loss == train("without", recipe={"ema_decay": None}).train_loss


def test_a_run_interrupted_goes_on_with_its_average_to_the_bit(train, tiny_task):
    data = as_source(Interrupted(90))
    task = make_task(TinyLM, "width", train_data=data, eval_data=tiny_task.eval_data, loss_fn=sequence_loss)
    with pytest.raises(KeyboardInterrupt):
        train("stopped", task, checkpoint_seconds=0.0)
    assert train("stopped").loss == train("whole").loss


def test_weights_of_16_bit_are_averaged_in_fp32():
    weights = [nn.Parameter(torch.ones(3, dtype=torch.bfloat16))]
    average = WeightAverage(weights, 0.999)
    with torch.no_grad():
        weights[0] += 2**-7
    # 8 bits hold no value between 1 and 1 + 2^-7.
    average.update(10**6)
    assert average.values[0].tolist() == pytest.approx([1 + 0.001 * 2**-7] * 3, abs=1e-7)
    average.replace_weights()
    assert weights[0].tolist() == [1.0] * 3


def test_a_weight_that_is_not_trained_stays_as_it_is(train, tiny_task):
    class HalfFrozen(TinyLM):
        def __init__(self, width):
            super().__init__(width)
            self.embed.requires_grad_(False)

    task = make_task(
        HalfFrozen, "width", train_data=as_source(ChainData()), eval_data=tiny_task.eval_data, loss_fn=sequence_loss
    )
    assert train(task=task).status == "completed"
