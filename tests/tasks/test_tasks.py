import functools
import subprocess
import sys

import pytest
import torch
from support import TinyLM
from torch import nn

from flops_fit.data import as_source
from flops_fit.errors import ContractError
from flops_fit.tasks import compute_loss, count_targets, create_model, make_task, probe_sizes


class EvenOnly(nn.Module):
    """A model that rejects odd widths."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError("width must be even")
        self.layer = nn.Linear(width, width, bias=False)


def test_parameters_are_counted_where_the_model_has_no_num_params():
    probes, _ = probe_sizes(make_task(EvenOnly, "width"), [8])
    assert probes[0].num_params == 64


def test_causal_flops_leave_out_what_attention_skips(chain_data, sequence_loss_fn):
    class Attending(TinyLM):
        def forward(self, tokens):
            x = self.embed(tokens)
            x = x + nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True)[:, 0]
            return self.head(torch.tanh(self.mix(x)))

    task = make_task(Attending, "width", train_data=as_source(chain_data), loss_fn=sequence_loss_fn)
    probe = probe_sizes(task, [8], measure=True)[0][0]
    products = 6 * (8 * 8 + 8 * 16)
    # 12 T d for dense attention; T(T+1)/2 of its T*T pairs are seen.
    assert probe.flops_per_token == pytest.approx(products + 12 * 16 * 8, rel=1e-6)
    assert probe.flops_per_token_causal == pytest.approx(products + 12 * 16 * 8 * 17 / 32, rel=1e-6)


def test_shared_weights_count_once_and_a_tied_table_is_no_mere_embedding():
    class Tied(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.table = nn.Embedding(10, width)
            self.head = nn.Linear(width, 10, bias=False)
            self.head.weight = self.table.weight

    probe = probe_sizes(make_task(Tied, "width"), [4])[0][0]
    assert (probe.num_params, probe.num_params_non_embedding) == (40, 40)


def test_an_untied_table_is_left_out_of_the_non_embedding_count(tiny_lm):
    probe = probe_sizes(make_task(tiny_lm, "width"), [4])[0][0]
    assert probe.num_params - probe.num_params_non_embedding == 16 * 4


def test_the_models_own_count_is_used():
    class Own(EvenOnly):
        def num_params(self):
            return 7

    assert probe_sizes(make_task(Own, "width"), [8])[0][0].num_params == 7


@pytest.mark.parametrize("count", [0, -1, 3.5, None])
def test_a_count_that_is_no_positive_int_is_refused(count):
    class Wrong(EvenOnly):
        def num_params(self):
            return count

    with pytest.raises(ContractError, match=r"Wrong.num_params\(\) returned"):
        probe_sizes(make_task(Wrong, "width"), [8])


def test_a_size_that_the_model_rejects_is_data_with_the_models_own_words():
    probes, rejected = probe_sizes(make_task(EvenOnly, "width"), [8, 9, 10])
    assert [p.size_param_value for p in probes] == [8, 10]
    assert "width must be even" in rejected[0].reason


def test_a_class_without_that_parameter_is_refused_by_name():
    with pytest.raises(ContractError, match=r"EvenOnly.*d_model"):
        probe_sizes(make_task(EvenOnly, "d_model"), [8])


def test_a_factory_that_returns_no_module_is_refused():
    with pytest.raises(ContractError, match=r"returned int"):
        create_model(make_task(lambda width: width, "width"), 8)


@pytest.mark.parametrize("model_cls", [functools.partial(EvenOnly), lambda width: EvenOnly(width)])
def test_partials_and_factories_are_accepted(model_cls):
    assert probe_sizes(make_task(model_cls, "width"), [8])[0][0].num_params == 64


def test_the_size_parameter_in_the_kwargs_is_dropped_with_a_warning(tiny_lm):
    with pytest.warns(UserWarning, match="width"):
        task = make_task(tiny_lm, "width", {"width": 8, "vocab_size": 16})
    assert task.model_kwargs == {"vocab_size": 16}


@pytest.mark.parametrize(
    ("loss_fn", "words"),
    [(nn.CrossEntropyLoss, r"CrossEntropyLoss\(\)"), (3, "int"), (lambda outputs: outputs, "two positional")],
)
def test_a_loss_that_cannot_be_called_is_refused(tiny_lm, loss_fn, words):
    with pytest.raises(ContractError, match=words):
        make_task(tiny_lm, "width", loss_fn=loss_fn)


def test_a_loss_without_a_signature_passes(tiny_lm):
    make_task(tiny_lm, "width", loss_fn=torch.dot)


def test_a_mapping_batch_uses_the_outputs_own_loss():
    class Own(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, x, labels):
            return {"loss": (self.weight.sum() * x - labels).abs().mean()}

    task = make_task(Own, "width")
    batch = {"x": torch.tensor([1.0]), "labels": torch.tensor([3.0])}
    assert compute_loss(task, create_model(task, 2), batch) == 1.0


def test_token_ids_without_labels_are_named_with_the_call_that_adds_them():
    built = []

    class NoLoss(TinyLM):
        def forward(self, input_ids):
            built.append(self.embed.embedding_dim)
            return {"logits": super().forward(input_ids)}

    data = as_source([{"input_ids": torch.zeros(4, dtype=torch.long)}] * 4)
    words = r"has no \.loss .*columns \['input_ids'\].*dataset\.map\(lambda row: {'labels': row\['input_ids'\]}\)"
    with pytest.raises(ContractError, match=words):
        probe_sizes(make_task(NoLoss, "width", train_data=data), [4, 8, 16], measure=True)
    # It is no fault of a size, so the others are not tried.
    assert set(built) == {4}


def test_a_batch_of_another_kind_is_refused_with_the_hint(tiny_lm):
    task = make_task(tiny_lm, "width")
    with pytest.raises(ContractError, match="with_format"):
        compute_loss(task, create_model(task, 4), [1, 2, 3])


def test_ignored_targets_do_not_count():
    inputs, targets = torch.zeros(2, 3), torch.tensor([[1, 2, -100], [-100, -100, 5]])
    assert count_targets(make_task(EvenOnly, "width"), (inputs, targets)) == 3


def test_float_targets_count_samples():
    assert count_targets(make_task(EvenOnly, "width"), (torch.zeros(4, 3), torch.zeros(4, 2))) == 4


def test_another_kwarg_is_another_fingerprint(tiny_lm):
    one = make_task(tiny_lm, "width", {"vocab_size": 16})
    two = make_task(tiny_lm, "width", {"vocab_size": 17})
    assert one.fingerprint != two.fingerprint


def test_planning_up_to_width_8192_stays_under_a_gigabyte():
    code = (
        "from flops_fit import plan_sweep; from flops_fit.examples import GPT\n"
        "from flops_fit.memory import peak_resident_bytes\n"
        "plan_sweep(GPT, 'd_model', compute_budgets=[1e20, 1e21], max_size=8192)\n"
        "print(peak_resident_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 1e9


def test_a_size_that_changes_nothing_is_refused(tiny_lm):
    task = make_task(lambda width: tiny_lm(8), "width")
    with pytest.raises(ContractError, match="parameters at all 3 values from 4 to 16"):
        probe_sizes(task, [4, 8, 16])


@pytest.mark.parametrize(
    ("loss_fn", "words"),
    [
        (lambda outputs, targets: outputs["logits"].mean(), "raised on samples of the data, IndexError"),
        (nn.CrossEntropyLoss(reduction="none"), "expected a scalar tensor"),
    ],
    ids=["wrong key", "no reduction"],
)
def test_a_loss_that_fails_on_the_data_is_refused_before_training(tiny_lm, chain_data, loss_fn, words):
    def flat(outputs, targets):
        return loss_fn(outputs.flatten(0, 1), targets.flatten())

    task = make_task(tiny_lm, "width", loss_fn=flat, train_data=as_source(chain_data))
    with pytest.raises(ContractError, match=words):
        probe_sizes(task, [4, 8], measure=True)
