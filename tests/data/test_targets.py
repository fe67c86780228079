"""D counts the targets that the loss counts, or the data are refused."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from flops_fit.data import as_source
from flops_fit.data.targets import check_targets, measure_targets
from flops_fit.errors import ContractError

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(4, 41, 400)
SEQUENCES = [torch.ones(int(n), dtype=torch.long) for n in LENGTHS]


class Ragged:
    def __len__(self):
        return len(SEQUENCES)

    def __getitem__(self, i):
        return SEQUENCES[i], SEQUENCES[i]


def padded(samples, length=None):
    rows = [(F.pad(x, (0, length - len(x))), F.pad(y, (0, length - len(y)), value=-100)) for x, y in samples]
    return tuple(map(torch.stack, zip(*rows, strict=True)))


def to_40(samples):
    return padded(samples, 40)


def to_longest(samples):
    return padded(samples, max(len(x) for x, _ in samples))


def counts_of(dataset, **options):
    found = measure_targets(as_source(dataset), **options)
    check_targets(found, **options)
    return found


def test_padding_that_is_masked_does_not_count():
    found = counts_of(DataLoader(Ragged(), collate_fn=to_40))
    # All 400 samples are counted; whole tokens per sample are within half a token of the mean.
    assert found.mean == pytest.approx(LENGTHS.mean(), rel=1e-12)
    assert found.tokens_per_sample == round(LENGTHS.mean())


@pytest.mark.parametrize("collate_fn", [None, to_longest], ids=["as they are", "padded to the longest of a batch"])
def test_samples_of_several_lengths_are_refused_with_what_to_do(collate_fn):
    with pytest.raises(ContractError, match=r"4 to 40 targets.*Pack sequences.*mask the padding with -100"):
        counts_of(DataLoader(Ragged(), collate_fn=collate_fn))


def test_images_of_several_sizes_are_refused():
    with pytest.raises(ContractError, match="resize images to one size"):
        counts_of([(torch.zeros(3, 8 + i, 8), i) for i in range(4)])


def test_another_ignored_index_is_taken_into_account():
    targets = torch.tensor([[1, 2, 0, 0], [3, 4, 0, 0]])
    data = TensorDataset(targets, targets)
    assert (counts_of(data).mean, counts_of(data, ignore_index=0).mean) == (4, 2)


def test_targets_that_are_all_ignored_are_refused():
    with pytest.raises(ContractError, match="all targets of 5 sampled samples are -100"):
        counts_of(TensorDataset(torch.zeros(5, 3), torch.full((5, 3), -100)))


def test_a_mean_that_no_whole_number_is_near_is_refused():
    targets = torch.tensor([[1, -100], [1, 2]])
    with pytest.raises(ContractError, match=r"1.5 targets on average.*Pack several"):
        counts_of(TensorDataset(targets, targets))


def test_few_samples_are_read_where_all_are_alike():
    class Counting:
        reads = 0

        def __len__(self):
            return 5000

        def __getitem__(self, i):
            Counting.reads += 1
            return torch.zeros(3), torch.ones(3, dtype=torch.long)

    source = as_source(Counting())
    Counting.reads = 0
    assert measure_targets(source).tokens_per_sample == 3
    assert Counting.reads == 256


def test_masks_drawn_at_each_read_give_the_same_count_twice():
    class Masked:
        def __len__(self):
            return 100

        def __getitem__(self, i):
            labels = torch.full((200,), 5)
            labels[torch.rand(200) < 0.85] = -100
            return {"input_ids": torch.zeros(200, dtype=torch.long), "labels": labels}

    assert counts_of(Masked()).mean == counts_of(Masked()).mean == pytest.approx(30, rel=0.1)


@pytest.mark.parametrize("targets", [torch.arange(4), torch.zeros(4, 2), torch.zeros(4, 5, 5, dtype=torch.long)])
def test_a_class_a_vector_and_an_image_of_classes_count_as_one(targets):
    assert counts_of(TensorDataset(torch.zeros(4, 2), targets)).tokens_per_sample == 1
