"""FLOPs counted on models against the sums that a reader can do by hand."""

import logging
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from flops_fit import flops


def measure_flops_per_token(make_model, data, loss):
    return flops.measure_flops_per_token(make_model, data.batch(range(2)), 2 * data.tokens_per_sample, loss)


class Samples:
    """A source of zeros."""

    num_samples = None
    fingerprint = "zeros"

    def __init__(self, make, tokens_per_sample=1):
        self.batch = lambda ids: make(len(ids))
        self.tokens_per_sample = tokens_per_sample


def sequences(length):
    return Samples(lambda n: (torch.zeros(n, length, dtype=torch.long),) * 2, length)


def hugging_face(length):
    return Samples(lambda n: dict.fromkeys(("input_ids", "labels"), torch.zeros(n, length, dtype=torch.long)), length)


def images(size):
    return Samples(lambda n: (torch.zeros(n, 3, size, size), torch.zeros(n, dtype=torch.long)))


def pair_loss(model, batch):
    outputs = model(batch[0])
    return F.cross_entropy(getattr(outputs, "logits", outputs).flatten(0, -2), batch[1].flatten())


def own_loss(model, batch):
    return model(**batch).loss


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.cell = kind(32, 64, 2, batch_first=True)
        self.head = nn.Linear(64, 50)

    def forward(self, x):
        return self.head(self.cell(self.embed(x))[0])


class ConvNet(nn.Module):
    """A plain, a strided grouped and a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(32, 8, 2, stride=2)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.up(F.relu(self.grouped(F.relu(self.first(x))))).mean((2, 3)))


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(loss_type="ForCausalLM"))


def llama(**changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    values = {
        "vocab_size": 1000, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 2,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**(values | changes)))


def vit():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256, image_size=32,
        patch_size=8, num_labels=10,
    )  # fmt: skip
    return ViTForImageClassification(config)


# Forward, gradient of the weights and of the input: 2 FLOPs each per weight and token. A layer on raw input has no
# gradient of it: 4 instead of 6. The first state of a recurrent net has none either: 2 less in one step of T.
GPT2_DENSE = 6 * (12 * 12 * 768**2 + 50257 * 768) + 12 * 12 * 1024 * 768
LLAMA_DENSE = 6 * (4 * (2 * 256 * 256 + 2 * 256 * 64 + 3 * 256 * 688) + 1000 * 256) + 12 * 4 * 256 * 256
CASES = [
    pytest.param(gpt2, hugging_face(1024), own_loss, GPT2_DENSE, id="gpt2"),
    pytest.param(llama, hugging_face(256), own_loss, LLAMA_DENSE, id="llama with grouped queries"),
    *(
        pytest.param(
            lambda kind=kind: Recurrent(kind), sequences(128), pair_loss,
            6 * (gates * 64 * (32 + 64 + 128) + 64 * 50) - 2 * 2 * gates * 64 * 64 / 128, id=kind.__name__,
        )
        for kind, gates in [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)]
    ),
    pytest.param(
        ConvNet, images(32), pair_loss,
        4 * 32**2 * 16 * 27 + 6 * 16**2 * 32 * 9 * 4 + 6 * 16**2 * 32 * 8 * 4 + 6 * 80, id="conv net",
    ),
    pytest.param(
        vit, images(32), pair_loss, 4 * 16 * 64 * 192 + 3 * 17 * (6 * 12 * 64**2 + 12 * 17 * 64) + 6 * 640, id="vit"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make_model", "data", "loss", "expected"), CASES)
def test_the_count_is_the_exact_formula(make_model, data, loss, expected):
    counted = measure_flops_per_token(make_model, data, loss)
    assert counted.method == "fake"
    assert counted.dense == pytest.approx(expected, rel=1e-3)


def test_causal_leaves_out_the_pairs_that_no_token_sees():
    counted = measure_flops_per_token(llama, hugging_face(256), own_loss)
    attention = 12 * 4 * 256 * 256
    # T(T+1)/2 of T*T pairs remain.
    assert counted.causal == pytest.approx(LLAMA_DENSE - attention * (1 - 257 / 512), rel=1e-9)


def test_without_causal_attention_both_counts_are_equal():
    counted = measure_flops_per_token(vit, images(32), pair_loss)
    assert counted.causal == counted.dense


def test_checkpointing_counts_the_forward_pass_again():
    class Twice(nn.Module):
        def __init__(self, again):
            super().__init__()
            self.embed, self.up, self.head = nn.Embedding(9, 8), nn.Linear(8, 24), nn.Linear(24, 9)
            self.again = again

        def widen(self, x):
            return torch.tanh(self.up(x))

        def forward(self, x):
            x = self.embed(x)
            return self.head(checkpoint(self.widen, x, use_reentrant=False) if self.again else self.widen(x))

    once, again = (measure_flops_per_token(lambda a=a: Twice(a), sequences(16), pair_loss) for a in (False, True))
    assert again.dense - once.dense == 2 * 8 * 24


class Experts(nn.Module):
    """Sends tokens to one of two experts by their value: shapes depend on data."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 32), nn.Linear(32, 50)
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))
        self.lstm = nn.LSTM(32, 32, batch_first=True)

    def forward(self, tokens_BT):
        x = self.lstm(self.embed(tokens_BT))[0]
        x = F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True)[:, 0]
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            chosen = (tokens_BT % 2 == i).nonzero(as_tuple=True)
            if len(chosen[0]):
                out[chosen] = expert(x[chosen])
        return self.head(out)


def test_shapes_that_depend_on_data_are_counted_on_real_samples():
    counted = measure_flops_per_token(Experts, sequences(32), pair_loss)
    assert counted.method == "cpu"
    # Attention and LSTM as fused CPU kernels would count zero.
    expected = 6 * (32 * 50 + 32 * 32 + 8 * 32 * 32) + 12 * 32 * 32 - 2 * 4 * 32 * 32 / 32
    assert counted.dense == pytest.approx(expected, rel=1e-3)
    assert counted.causal < counted.dense


def test_a_model_of_uncounted_kernels_is_assumed_at_6n_and_says_so(caplog):
    class Scan(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 50)

        def forward(self, x):
            return self.embed(x).cumsum(1)

    with caplog.at_level(logging.WARNING):
        counted = measure_flops_per_token(Scan, sequences(8), pair_loss)
    assert (counted.dense, counted.method) == (6 * 2500, "6N")
    assert "ASSUMED" in caplog.text


def test_a_model_that_raises_says_what_it_raised():
    class Broken(Recurrent):
        def forward(self, x):
            raise RuntimeError("no luck today")

    with pytest.raises(RuntimeError, match="no luck today"):
        measure_flops_per_token(lambda: Broken(nn.RNN), sequences(8), pair_loss)


@pytest.mark.slow
def test_llama_405b_is_counted_exactly_within_a_gigabyte():
    # It takes about 13 s; a machine may be slow, so that is no part of the test.
    code = """
import sys
sys.path[:0] = ["tests"]
from flops_fit.memory import peak_resident_bytes
from test_flops import hugging_face, llama, measure_flops_per_token, own_loss
shape = dict(vocab_size=128256, hidden_size=16384, intermediate_size=53248, num_hidden_layers=126,
             num_attention_heads=128, num_key_value_heads=8)
counted = measure_flops_per_token(lambda: llama(**shape), hugging_face(8192), own_loss)
print(counted.dense, peak_resident_bytes() / 1e9, counted.method)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    dense, gigabytes, method = done.stdout.split()
    weights = 126 * (2 * 16384**2 + 2 * 16384 * 1024 + 3 * 16384 * 53248) + 128256 * 16384
    assert method == "fake"
    assert float(dense) == pytest.approx(6 * weights + 12 * 126 * 8192 * 16384, rel=1e-3)
    assert float(gigabytes) < 1
