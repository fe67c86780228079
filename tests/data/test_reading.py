"""What worker processes read is what this process reads."""

import random

import numpy as np
import pytest
import torch
from support import ChainData
from torch.utils.data import DataLoader, TensorDataset

from flops_fit.data import as_source, split_held_out
from flops_fit.data.randomness import Draws
from flops_fit.data.reading import _workers_of, read_pieces


class Augmented(ChainData):
    """Draws from each global generator, and remembers in which process it was read."""

    def __getitem__(self, i):
        inputs, targets = super().__getitem__(i)
        noise = random.random() + np.random.random() + float(torch.rand(()))
        return inputs + noise, targets


def read(num_workers, dataset=None, first=0):
    source, _ = split_held_out(as_source(DataLoader(dataset or Augmented(), batch_size=8, num_workers=num_workers)))
    pieces = [(np.arange(8 * i, 8 * i + 8), range(8 * i, 8 * i + 8)) for i in range(first, 6)]
    return list(read_pieces(source, iter(pieces), Draws(3)))


def test_samples_drawn_in_workers_are_those_drawn_here_in_the_same_order():
    here, there = read(0), read(2)
    assert len(here) == len(there) == 6
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_a_resumed_run_reads_the_samples_of_the_run_without_a_stop():
    for one, other in zip(read(2)[4:], read(2, first=4), strict=True):
        assert torch.equal(one[0], other[0])


def test_what_a_worker_raises_is_raised_here():
    class Broken(ChainData):
        def __getitem__(self, i):
            if i > 20:
                raise OSError("the disk is gone")
            return super().__getitem__(i)

    with pytest.raises(OSError, match="the disk is gone"):
        read(1, Broken())


def test_tensors_are_indexed_here_whatever_the_loader_asks_for():
    tokens = ChainData().tokens
    loader = DataLoader(TensorDataset(tokens[:, :-1], tokens[:, 1:]), batch_size=8, num_workers=2)
    assert _workers_of(as_source(loader)) is None
