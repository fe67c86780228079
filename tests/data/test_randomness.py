"""Data sets that draw at random give the same sample at the same place of a run."""

import random

import numpy as np
import pytest
import torch

from flops_fit.data import as_source
from flops_fit.data.randomness import Draws


class Noisy(torch.utils.data.Dataset):
    """Draws from each of the global generators."""

    def __len__(self):
        return 100

    def __getitem__(self, i):
        return torch.tensor([i, random.random(), np.random.rand(), float(torch.rand(()))]), 0


class Batched(Noisy):
    def __getitems__(self, ids):
        return [self[i] for i in ids]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        data = Noisy()
        return (data[i] for i in range(100))


class Fixed(Noisy):
    calls = 0

    def __getitem__(self, i):
        return torch.tensor([i]), 0

    def __getitems__(self, ids):
        self.calls += 1
        return [self[i] for i in ids]


def take(dataset, *parts, seed=0):
    source, draws = as_source(dataset), Draws(seed)
    found = []
    for part in parts:
        with draws.at(part):
            found.append(source.batch(np.array(part))[0])
        draws.settle()
    return torch.cat(found)


@pytest.mark.parametrize("dataset", [Noisy(), Batched(), Stream(), torch.utils.data.Subset(Noisy(), range(100))])
def test_samples_do_not_depend_on_the_batches_they_come_in(dataset):
    whole = take(dataset, range(8))
    assert torch.equal(take(dataset, range(3), range(3, 8)), whole)
    # Sample 5 alone, as a resumed run or another process takes it.
    assert torch.equal(take(dataset, [5])[0], whole[5])
    assert len(set(whole[:, 1:].flatten().tolist())) == 24
    assert not torch.equal(take(dataset, range(8), seed=1)[:, 1:], whole[:, 1:])


def test_the_generators_of_the_process_are_left_as_they_were():
    source = as_source(Noisy())
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with Draws(0).at(range(8)):
        source.batch(np.arange(8))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_data_set_that_draws_nothing_is_read_in_batches_once_that_is_known():
    fixed = Fixed()
    take(fixed, range(4), range(4, 8), range(8, 12))
    assert fixed.calls == 2
