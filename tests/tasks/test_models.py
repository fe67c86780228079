"""Models that training cannot take end in one line; those that only need a sample get one."""

import re

import numpy as np
import pytest
import torch
from support import TinyLM
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from flops_fit.data import as_source
from flops_fit.errors import ContractError
from flops_fit.schema import canonical_json
from flops_fit.tasks import create_model, make_task, plain_kwargs, probe_sizes


class Lazy(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(width), nn.BatchNorm1d(width), nn.LazyLinear(3))

    def forward(self, x):
        return self.layers(x)


def vectors():
    return as_source(TensorDataset(torch.zeros(8, 5), torch.zeros(8, dtype=torch.long)))


def test_lazy_layers_take_their_shapes_from_a_sample():
    task = make_task(Lazy, "width", train_data=vectors(), loss_fn=nn.CrossEntropyLoss())
    probe = probe_sizes(task, [4, 8], measure=True)[0][0]
    assert probe.num_params == 5 * 4 + 4 + 8 + 4 * 3 + 3
    # Forward and gradient of the weights, and the gradient of the second layer's input.
    assert probe.flops_per_token == 4 * 5 * 4 + 6 * 4 * 3
    torch.manual_seed(0)
    first = create_model(task, 4)
    torch.manual_seed(0)
    again = create_model(task, 4)
    assert first.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_lazy_layers_without_data_say_what_they_need():
    with pytest.raises(ContractError, match="Lazy has lazy layers, whose shapes only data can tell"):
        probe_sizes(make_task(Lazy, "width"), [4])


def test_sparse_gradients_are_refused():
    def sparse(width):
        return nn.Sequential(nn.Embedding(10, width, sparse=True))

    with pytest.raises(ContractError, match=r"sparse.0 is an embedding with sparse=True.*sparse=False"):
        probe_sizes(make_task(sparse, "width"), [4])


def test_an_instance_in_place_of_a_class_is_refused():
    with pytest.raises(ContractError, match="got an instance of TinyLM, expected the class"):
        make_task(TinyLM(8), "width")


def test_a_hugging_face_class_is_to_be_wrapped_and_the_function_works():
    from transformers import LlamaConfig, LlamaForCausalLM

    shown = r"(def make\(hidden_size, \*\*kw\): .*LlamaForCausalLM\(LlamaConfig\(hidden_size=hidden_size, \*\*kw\)\))"
    with pytest.raises(ContractError, match=shown) as error:
        make_task(LlamaForCausalLM, "hidden_size")
    # The rest of the shape is large by default: 200M parameters at the smallest size.
    assert "vocab_size=32000, num_hidden_layers=32" in str(error.value)
    scope = {"LlamaForCausalLM": LlamaForCausalLM, "LlamaConfig": LlamaConfig}
    exec(re.search(shown, str(error.value))[1], scope)
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16, "intermediate_size": 8}
    probes, _ = probe_sizes(make_task(scope["make"], "hidden_size", shape), [4, 8])
    assert [p.size_param_value for p in probes] == [4, 8]


def hugging_face_things():
    import transformers

    config = transformers.LlamaConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    wrapped = r"def make\(hidden_size, \*\*kw\): return "
    auto = wrapped + r"AutoModelForCausalLM\.from_config\("
    return {
        "an instance": (transformers.LlamaForCausalLM(config), wrapped + r"LlamaForCausalLM\(LlamaConfig\("),
        "another name for the size": (transformers.GPT2LMHeadModel, wrapped + r"GPT2LMHeadModel\(GPT2Config\("),
        "a configuration class": (transformers.LlamaConfig, auto + r"LlamaConfig\("),
        "a configuration": (config, auto + r"LlamaConfig\("),
        "an auto class": (transformers.AutoModelForCausalLM, auto + r"AutoConfig\.for_model\('llama'"),
        "its method": (transformers.AutoModelForCausalLM.from_config, auto + r"AutoConfig\.for_model\('llama'"),
        "a name": ("org/llama", auto + r"AutoConfig\.from_pretrained\('org/llama'"),
    }


def test_what_stands_for_a_hugging_face_model_names_the_function_to_write():
    for given, words in hugging_face_things().values():
        with pytest.raises(ContractError, match=words) as error:
            make_task(given, "hidden_size")
        assert "\n" not in str(error.value)


def test_a_size_that_a_configuration_does_not_know_is_named():
    from transformers import LlamaForCausalLM

    with pytest.raises(ContractError, match="LlamaConfig has no width"):
        make_task(LlamaForCausalLM, "width")


def test_numpy_integers_are_counts():
    class Own(TinyLM):
        def num_params(self):
            return np.int64(7)

    assert probe_sizes(make_task(Own, "width"), [8])[0][0].num_params == 7


@pytest.mark.parametrize("method", ["num_params", "flops_per_token"])
def test_a_count_that_raises_is_named(method):
    def raises(self):
        raise AttributeError("no config")

    model_cls = type("Own", (TinyLM,), {method: raises})
    with pytest.raises(ContractError, match=rf"Own.{method}\(\) raised AttributeError.*no config"):
        probe_sizes(make_task(model_cls, "width"), [8])


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_flops_that_are_no_positive_number_are_refused(value):
    model_cls = type("Own", (TinyLM,), {"flops_per_token": lambda self: value})
    with pytest.raises(ContractError, match=r"flops_per_token\(\) returned"):
        probe_sizes(make_task(model_cls, "width"), [8])


def test_a_forward_pass_that_raises_above_a_size_rejects_those_sizes(chain_data, sequence_loss_fn):
    class Small(TinyLM):
        def forward(self, x):
            if self.embed.embedding_dim > 8:
                raise RuntimeError("too wide for this kernel")
            return super().forward(x)

    task = make_task(Small, "width", train_data=as_source(chain_data), loss_fn=sequence_loss_fn)
    probes, rejected = probe_sizes(task, [4, 8, 12, 16], measure=True)
    assert [p.size_param_value for p in probes] == [4, 8]
    assert [r.size_param_value for r in rejected] == [12, 16]
    assert "too wide for this kernel" in rejected[0].reason


def test_a_model_that_meta_cannot_build_is_built_below_a_gigabyte_only():
    built = []

    class Reads(nn.Module):
        def __init__(self, width):
            super().__init__()
            float(torch.ones(1))  # Fails on the meta device.
            built.append(width)
            # Quadratic in the width, without the memory.
            self.weight = nn.Parameter(torch.zeros(1).expand(width, width))

    probes, rejected = probe_sizes(make_task(Reads, "width"), [1024, 4096, 65536])
    assert [p.size_param_value for p in probes] == built == [1024, 4096]
    assert "17.2 GB" in rejected[0].reason


def test_arguments_that_are_no_json_are_kept_by_import_path_or_repr():
    class Config:
        pass

    arguments = {"act": F.silu, "norm": nn.LayerNorm, "c": torch.relu, "dtype": torch.bfloat16, "config": Config(),
                 "sizes": (1, np.int64(2)), "limit": float("inf"), "deep": {"f": len}}  # fmt: skip
    plain = plain_kwargs(arguments)
    assert plain["act"] == "torch.nn.functional.silu"
    assert plain["norm"] == "torch.nn.modules.normalization.LayerNorm"
    assert (plain["c"], plain["dtype"], plain["limit"]) == ("torch.relu", "torch.bfloat16", "inf")
    assert (plain["sizes"], plain["deep"]) == ([1, 2], {"f": "builtins.len"})
    assert plain["config"].startswith("object <")
    assert "0x" not in plain["config"]
    canonical_json(plain)
