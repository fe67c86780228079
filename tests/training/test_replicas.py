"""What copies of a model exchange: as little as makes them equal."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from flops_fit.training.engine import replicas
from flops_fit.training.engine.replicas import Replicas, _buckets


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("mask", torch.ones(4, 4), persistent=False)
        self.register_buffer("code", torch.zeros(3))
        self.register_buffer("late", torch.zeros(1))


@pytest.fixture
def model():
    return Buffers()


@pytest.fixture
def sent():
    return []


@pytest.fixture
def copies(model, sent):
    world = SimpleNamespace(gather=lambda mine: [mine, set()], copy_from_main=lambda tensors: sent.extend(tensors))
    return Replicas(model, list(model.parameters()), world)


def step(model, copies):
    model.norm(torch.randn(4, 3))
    model.code.data.add_(1)
    copies.copy_buffers(some_new=copies.newly_changed() > 0)


def test_buffers_that_training_changes_are_sent_and_constants_are_not(model, copies, sent):
    step(model, copies)
    names = {name for name, buffer in model.named_buffers() if any(buffer is s for s in sent)}
    assert names == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "code"}


def test_a_buffer_that_changes_only_later_is_found(model, copies, sent):
    for _ in range(5):
        step(model, copies)
    assert not any(s is model.late for s in sent)
    model.late.add_(1)
    step(model, copies)
    assert any(s is model.late for s in sent)
    assert copies.newly_changed() == 0


def test_a_buffer_that_only_another_process_has_changed_is_sent_too(model, copies, sent, monkeypatch):
    monkeypatch.setattr(copies._world, "gather", lambda mine: [mine, {0}])
    copies.copy_buffers(some_new=True)
    assert [s is next(iter(model.buffers())) for s in sent] == [True]


def test_gradients_go_in_parcels_of_one_type_and_a_limited_size(monkeypatch):
    monkeypatch.setattr(replicas, "BUCKET_BYTES", 100)
    sizes = [10, 10, 30, 5, 5]
    tensors = [*map(torch.ones, sizes), torch.ones(5, dtype=torch.float64)]
    assert [[len(t) for t in bucket] for bucket in _buckets(tensors)] == [[10, 10], [30], [5, 5], [5]]
