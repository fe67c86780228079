"""A loss that sums, or is a mean over something else than its parts are weighed by, is refused; nothing else is."""

import functools
import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from flops_fit.data import as_source
from flops_fit.errors import ContractError
from flops_fit.tasks import compute_loss, count_targets, create_model, make_task
from flops_fit.tasks.loss_check import check_loss_is_mean

WEIGHT = torch.tensor([0.2, 1.0, 3.0])
PAD = 0


class Linear(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 3))

    def forward(self, x_BTC):
        return self.layers(x_BTC).mT


class Flat(nn.Module):
    """As users wrap a criterion."""

    def __init__(self, **options):
        super().__init__()
        self.criterion = nn.CrossEntropyLoss(**options)

    def forward(self, outputs, targets):
        return self.criterion(outputs.mT.flatten(0, 1), targets.flatten())


def contrastive(outputs, targets):
    """Each sample against the others, so that the loss of one alone is 0."""
    outputs = F.normalize(outputs[..., 0], dim=1)
    return F.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)))


def mean_but_of_class_0(outputs, targets):
    losses = F.cross_entropy(outputs, targets, reduction="none")
    return (losses * (targets != 0)).sum() / (targets != 0).sum()


def smoothed(outputs, targets):
    return F.cross_entropy(outputs, targets, WEIGHT, label_smoothing=0.1)


def closure(ignore_index):
    criterion = nn.CrossEntropyLoss(ignore_index=ignore_index, weight=WEIGHT)
    return lambda outputs, targets: criterion(outputs, targets)


def make(loss_fn, model_cls=Linear, targets=None):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 60, 4, generator=generator)
    targets = torch.randint(3, (40, 60), generator=generator) if targets is None else targets
    return make_task(model_cls, "width", loss_fn=loss_fn, train_data=as_source(TensorDataset(inputs, targets)))


def check(loss_fn, **changes):
    check_loss_is_mean(make(loss_fn, **changes), 4, 35)


def test_a_sum_is_refused_with_the_losses():
    with pytest.raises(ContractError, match="is the sum of theirs"):
        check(nn.CrossEntropyLoss(reduction="sum"))


READABLE = [
    pytest.param(nn.CrossEntropyLoss(), id="mean"),
    pytest.param(nn.CrossEntropyLoss(ignore_index=0), id="ignored class"),
    pytest.param(nn.CrossEntropyLoss(weight=WEIGHT, ignore_index=1), id="weights"),
    pytest.param(nn.CrossEntropyLoss(label_smoothing=0.1), id="smoothing"),
    pytest.param(Flat(ignore_index=0), id="module"),
    pytest.param(closure(0), id="closure"),
    pytest.param(functools.partial(F.cross_entropy, ignore_index=0), id="partial"),
    pytest.param(lambda outputs, targets: F.cross_entropy(outputs, targets, ignore_index=PAD), id="lambda"),
    pytest.param(smoothed, id="weights and smoothing"),
]


@pytest.mark.parametrize("loss_fn", READABLE)
def test_the_mean_over_parts_is_the_loss_of_the_batch(loss_fn):
    task = make(loss_fn)
    model, (inputs, targets) = create_model(task, 4), task.train_data.dataset.tensors
    parts = [(inputs[i : i + 7], targets[i : i + 7]) for i in range(0, 40, 7)]
    losses = [(count_targets(task, part), compute_loss(task, model, part).item()) for part in parts]
    whole = sum(n * loss for n, loss in losses) / sum(n for n, _ in losses)
    assert whole == pytest.approx(compute_loss(task, model, (inputs, targets)).item(), rel=1e-6)


@pytest.mark.parametrize("loss_fn", READABLE)
def test_what_the_loss_counts_passes_the_check(loss_fn, caplog):
    check(loss_fn)
    assert not caplog.records


@pytest.mark.parametrize("zeros", [False, True])
def test_a_mean_over_something_else_is_refused_also_where_all_losses_are_equal_at_first(zeros):
    class Zeros(Linear):
        def __init__(self, width):
            super().__init__(width)
            nn.init.zeros_(self.layers[1].weight)
            nn.init.zeros_(self.layers[1].bias)

    with pytest.raises(ContractError, match=r"it weighs the parts 1 : .*ignore_index=\.\.\., weight="):
        check(mean_but_of_class_0, model_cls=Zeros if zeros else Linear)


def with_balance(outputs, targets):
    """As mixtures of experts have it: a mean, and a term of the batch that is not one."""
    return F.cross_entropy(outputs, targets) + 10 * (outputs.softmax(1).mean((0, 2)) ** 2).sum()


@pytest.mark.parametrize("loss_fn", [contrastive, with_balance])
def test_a_loss_that_couples_samples_passes_with_a_warning(loss_fn, caplog):
    with caplog.at_level(logging.WARNING):
        check(loss_fn)
    assert "depends on the micro-batch" in caplog.text


def test_a_balance_of_the_batch_is_refused_for_no_weights():
    # Of 60 draws of weights 7 looked like a mean with other weights in every single pair, some of these among them.
    for seed in range(20):
        torch.manual_seed(seed)
        check(with_balance)


def test_a_loss_of_zero_passes():
    check(lambda outputs, targets: outputs.sum() * 0)


def test_targets_beyond_the_outputs_are_refused_also_those_that_are_rare():
    targets = torch.zeros(40, 60, dtype=torch.long)
    targets[23, 5] = 3
    with pytest.raises(ContractError, match="targets go from 0 to 3, and Linear has 3 outputs"):
        check(nn.CrossEntropyLoss(), targets=targets)


def test_targets_that_the_loss_shifts_are_not_held_against_it():
    check(
        lambda outputs, targets: F.cross_entropy(outputs, targets - 1), targets=torch.arange(2400).view(40, 60) % 3 + 1
    )


def test_token_ids_beyond_the_table_are_refused():
    class Table(Linear):
        def forward(self, x):
            return nn.functional.embedding(torch.full(x.shape[:2], 3), self.layers[1].weight[:, :3]).mT

    with pytest.raises(ContractError, match=r"IndexError.*number of embeddings"):
        check(nn.CrossEntropyLoss(), model_cls=Table)


def test_the_generator_of_the_caller_is_left_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check(nn.CrossEntropyLoss())
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_that_raises_is_left_to_its_run():
    class Raises(Linear):
        def forward(self, x):
            raise RuntimeError("only on GPUs")

    check(nn.CrossEntropyLoss(), model_cls=Raises)


def language_models():
    import transformers as hf

    small = {"vocab_size": 30, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "causal": lambda n: hf.LlamaForCausalLM(hf.LlamaConfig(hidden_size=n, **small)),
        "masked": lambda n: hf.BertForMaskedLM(hf.BertConfig(hidden_size=n, **small)),
    }


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_labels_that_a_hugging_face_model_shifts_or_not_are_weighed_as_it_does(kind, caplog):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(30, (24, 20), generator=generator)
    labels = torch.where(torch.rand(24, 20, generator=generator) < torch.linspace(0.3, 0.9, 24)[:, None], tokens, -100)
    rows = [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]
    task = make_task(language_models()[kind], "n", train_data=as_source(rows))
    check_loss_is_mean(task, 16, 5000)
    assert not caplog.records
