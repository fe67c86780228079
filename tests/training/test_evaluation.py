"""The held-out loss is one number for the same samples, however they are read."""

import numpy as np
import pytest
import torch
from support import ChainData, TinyLM, sequence_loss

from flops_fit.data import as_source
from flops_fit.errors import ModelFailed
from flops_fit.tasks import make_task
from flops_fit.training import evaluation
from flops_fit.training.evaluation import held_out_loss


class Ragged(ChainData):
    """Samples with many ignored targets."""

    def __getitem__(self, i):
        inputs, targets = super().__getitem__(i)
        targets = targets.clone()
        targets[: i % 13] = -100
        return inputs, targets


@pytest.fixture
def task():
    return make_task(TinyLM, "width", eval_data=as_source(Ragged(200)), loss_fn=sequence_loss)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TinyLM(8)


def expected_loss(model, data, ids):
    inputs, targets = data.batch(np.asarray(ids))
    with torch.no_grad():
        return float(sequence_loss(model(inputs), targets))


def test_it_is_the_mean_over_all_targets(task, model, world):
    loss, _ = held_out_loss(task, model, world, max_samples=10**6)
    assert loss == pytest.approx(expected_loss(model, task.eval_data, range(200)), rel=1e-6)


def test_fewer_samples_are_evenly_spaced(task, model, world):
    loss, _ = held_out_loss(task, model, world, max_samples=50)
    assert loss == pytest.approx(expected_loss(model, task.eval_data, range(0, 200, 4)), rel=1e-6)


def test_what_fits_into_memory_does_not_change_it(task, model, world):
    whole, error = held_out_loss(task, model, world, max_samples=200)
    parts, parts_error = held_out_loss(task, model, world, max_samples=200, micro_batch=3)
    assert (parts, parts_error) == (pytest.approx(whole, rel=1e-6), pytest.approx(error, rel=1e-4))


def test_out_of_memory_takes_fewer_samples_at_once(task, model, world):
    class Hungry(TinyLM):
        def forward(self, tokens):
            if len(tokens) > 5:
                raise torch.OutOfMemoryError("pretend")
            return super().forward(tokens)

    hungry = Hungry(8)
    hungry.load_state_dict(model.state_dict())
    expected, _ = held_out_loss(task, model, world, max_samples=200)
    assert held_out_loss(task, hungry, world, max_samples=200)[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_its_error_is_that_of_a_mean_of_independent_samples(model, world):
    data = as_source(ChainData(4096))
    task = make_task(TinyLM, "width", eval_data=data, loss_fn=sequence_loss)
    _, error = held_out_loss(task, model, world, max_samples=4096)
    one_by_one = [expected_loss(model, data, [i]) for i in range(4096)]
    # 128 chunks: the estimate of an error is itself known to 1/sqrt(2 * 128), 6 percent; three of those.
    assert error == pytest.approx(np.std(one_by_one) / np.sqrt(4096), rel=0.2)


def test_one_chunk_has_no_error(task, model, world):
    assert held_out_loss(task, model, world, max_samples=evaluation.CHUNK)[1] is None


def test_the_model_is_left_in_training(task, model, world):
    model.train()
    held_out_loss(task, model, world, max_samples=10)
    assert model.training


class Sparse(ChainData):
    """Only some samples hold targets that count; the first forty hold none."""

    def __init__(self, first):
        super().__init__(200)
        self.first = first

    def __getitem__(self, i):
        inputs, targets = super().__getitem__(i)
        return inputs, targets if i >= self.first and i % 3 == 0 else torch.full_like(targets, -100)


def test_samples_without_targets_count_for_nothing(model, world):
    # A whole chunk of 32 samples, and most forward passes, have none.
    task = make_task(TinyLM, "width", eval_data=as_source(Sparse(40)), loss_fn=sequence_loss)
    loss, error = held_out_loss(task, model, world, max_samples=200, micro_batch=1)
    assert loss == pytest.approx(expected_loss(model, task.eval_data, range(200)), rel=1e-6)
    assert 0 < error < 1


def test_held_out_data_without_any_target_are_refused(model, world):
    task = make_task(TinyLM, "width", eval_data=as_source(Sparse(200)), loss_fn=sequence_loss)
    with pytest.raises(ModelFailed, match="no target that counts in 200 samples"):
        held_out_loss(task, model, world, max_samples=200)
