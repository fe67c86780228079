"""Each sample of a step goes to one process."""

import numpy as np
import pytest
import torch
from support import ChainData, TinyLM, make_experiment

from flops_fit.data import as_source
from flops_fit.tasks import make_task
from flops_fit.training.feeding import pieces, prefetched, step_batches
from flops_fit.training.order import sample_ids


class Numbers:
    tokens_per_sample, num_samples, fingerprint = 16, 512, "numbers"

    def batch(self, ids):
        return ids, ids


def steps_of(rank, size, micro_batch=None, first_step=0):
    task = make_task(TinyLM, "width", train_data=Numbers())
    batches = step_batches(task, make_experiment(), first_step, rank=rank, size=size, micro_batch=micro_batch)
    return [[(list(inputs), count) for (inputs, _), count in step] for step in batches]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_the_processes_share_the_samples_of_a_step(size, micro_batch):
    shares = [steps_of(rank, size, micro_batch) for rank in range(size)]
    taken = [
        i for step in zip(*shares, strict=True) for share in step for ids, count in share for i in ids[: int(count)]
    ]
    assert taken == list(sample_ids(0, 0, 150, 512))
    # Every process takes part in every forward pass.
    assert all(len({len(share) for share in step}) == 1 for step in zip(*shares, strict=True))


def test_any_step_is_found_without_those_before_it():
    assert steps_of(0, 2, first_step=7) == steps_of(0, 2)[7:]


def test_a_process_without_samples_takes_part_with_weight_zero():
    # Six samples remain for the last step.
    assert [count for _, count in steps_of(7, 8)[-1]] == [0]
    assert [count for _, count in steps_of(1, 4, micro_batch=1)[-1]] == [1, 1]
    assert [count for _, count in steps_of(3, 4, micro_batch=1)[-1]] == [1, 0]


@pytest.mark.parametrize(
    ("count", "size", "micro_batch", "needs_two", "lengths"),
    [
        (251, 1, 100, False, [84, 84, 83]),
        (8, 1, 7, False, [4, 4]),
        (5, 1, 2, False, [2, 2, 1]),
        (5, 1, 2, True, [3, 2]),
        (8, 1, 1, True, [2, 2, 2, 2]),
        (1, 1, 1, True, [1]),
        (5, 2, 2, True, [3]),
    ],
)
def test_a_share_is_cut_into_pieces_of_nearly_the_same_length(count, size, micro_batch, needs_two, lengths):
    found = pieces(count, 0, size, micro_batch, needs_two=needs_two)
    assert [own.stop - own.start for own, _ in found] == lengths


def test_a_sample_alone_is_taken_twice_where_a_model_needs_two():
    task = make_task(TinyLM, "width", train_data=as_source(ChainData()))
    experiment = make_experiment(num_tokens=16 * 9)
    steps = list(step_batches(task, experiment, 0, rank=0, size=1, micro_batch=None, needs_two=True))
    (((inputs, _), weight),) = steps[-1]
    assert inputs.shape == (2, 16)
    assert torch.equal(inputs[0], inputs[1])
    assert weight == 16


def test_items_come_in_order_and_an_error_where_its_item_would_have():
    def numbers():
        yield from range(5)
        raise RuntimeError("no more")

    items = prefetched(numbers(), lambda x: 10 * x)
    assert [next(items) for _ in range(5)] == [0, 10, 20, 30, 40]
    with pytest.raises(RuntimeError, match="no more"):
        next(items)


def test_items_are_taken_ahead_but_not_all():
    taken = []

    def numbers():
        for i in range(100):
            taken.append(i)
            yield i

    items = prefetched(numbers(), lambda x: x, ahead=2)
    assert next(items) == 0
    next(items)
    items.close()
    assert len(taken) <= 4


def test_the_end_is_an_end():
    assert list(prefetched(iter(np.arange(3)), lambda x: x)) == [0, 1, 2]
