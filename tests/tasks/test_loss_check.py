"""A loss that sums is refused, and nothing else is."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from flops_fit.data import as_source
from flops_fit.errors import ContractError
from flops_fit.tasks import make_task
from flops_fit.tasks.loss_check import check_loss_is_mean


class Linear(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 3))

    def forward(self, x):
        return self.layers(x)


def contrastive(outputs, targets):
    """Each sample against the others, so that the loss of one alone is 0."""
    outputs = F.normalize(outputs, dim=1)
    return F.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)))


def check(loss_fn, model_cls=Linear):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator)
    data = as_source(TensorDataset(inputs, targets))
    check_loss_is_mean(make_task(model_cls, "width", loss_fn=loss_fn, train_data=data), 4, 35)


def test_a_sum_is_refused_with_the_losses():
    with pytest.raises(ContractError, match="is the sum of theirs"):
        check(nn.CrossEntropyLoss(reduction="sum"))


@pytest.mark.parametrize(
    "loss_fn",
    [nn.CrossEntropyLoss(), contrastive, lambda outputs, targets: outputs.sum() * 0],
    ids=["mean", "contrastive", "zero"],
)
def test_other_losses_pass(loss_fn):
    check(loss_fn)


def test_the_generator_of_the_caller_is_left_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check(nn.CrossEntropyLoss())
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_that_raises_is_left_to_its_run():
    class Raises(Linear):
        def forward(self, x):
            raise RuntimeError("only on GPUs")

    check(nn.CrossEntropyLoss(), Raises)
