"""The reference GPT's kernels against the plain formulation of the same architecture."""

import math

import pytest
import torch
from flops_fit.examples.gpt_stdlib import GPT, cross_entropy
from torch import nn
from torch.nn import functional as F

V, T = 50, 24


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(d_model=32, n_layer=3, n_head=4, vocab_size=V, seq_len=T)


@pytest.fixture
def tokens():
    return torch.randint(V, (6, T + 1), generator=torch.Generator().manual_seed(1))


def plain_loss(model, tokens):
    """Each formula as a paper writes it, on the model's own weights."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    def norm(x, weight):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * weight

    x = model.token_embedding.weight[inputs] + model.position_embedding.weight[:T]
    for block in model.blocks:
        q, k, v = (norm(x, block.norm_attention.weight) @ block.qkv.weight.T).chunk(3, -1)
        heads = []
        for i in range(4):
            part = slice(8 * i, 8 * i + 8)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(8)
            scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
            heads.append(scores.softmax(-1) @ v[..., part])
        x = x + torch.cat(heads, -1) @ block.attention_out.weight.T
        hidden = norm(x, block.norm_mlp.weight) @ block.mlp_in.weight.T
        x = x + (hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))) @ block.mlp_out.weight.T
    logits = norm(x, model.norm_out.weight) @ model.token_embedding.weight.T
    return -logits.log_softmax(-1).gather(2, targets[..., None]).mean()


def gradients_of(loss, model):
    model.zero_grad()
    loss.backward()
    return nn.utils.parameters_to_vector([p.grad for p in model.parameters()])


def test_in_fp32_loss_and_gradient_are_those_of_the_plain_formulation(model, tokens):
    loss = cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
    expected = plain_loss(model, tokens)
    # float32 sums in another order.
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    ours, theirs = gradients_of(loss, model), gradients_of(expected, model)
    assert (ours - theirs).norm() / theirs.norm() < 1e-5


def test_in_bf16_they_are_close_to_it(model, tokens):
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
    expected = plain_loss(model, tokens)
    # bf16 has 8 bits, 0.4 %; the errors of many products average out in the loss.
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    ours, theirs = gradients_of(loss, model), gradients_of(expected, model)
    assert (ours - theirs).norm() / theirs.norm() < 0.02
    assert ours.dtype == torch.float32


def test_kernels_add_no_parameters(model):
    assert model.num_params() == V * 32 + T * 32 + 3 * (12 * 32**2 + 2 * 32) + 32


def test_long_contexts_take_the_fused_attention(monkeypatch, tokens):
    calls = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k))
    for length, expected in ((24, 0), (600, 2)):
        torch.manual_seed(0)
        model = GPT(d_model=8, vocab_size=V, seq_len=length)
        calls.clear()
        with torch.autocast("cpu", torch.bfloat16):
            model(torch.zeros(1, length, dtype=torch.long))
        assert len(calls) == expected


def test_the_chunked_loss_ignores_what_the_plain_one_ignores():
    rng = torch.Generator().manual_seed(0)
    # More rows than one chunk holds.
    logits = torch.randn(3, 100, 4096, generator=rng).bfloat16().requires_grad_()
    targets = torch.randint(4096, (3, 100), generator=rng)
    targets[1, 20:] = -100
    loss = cross_entropy(logits, targets)
    (grad,) = torch.autograd.grad(loss, logits)
    exact = logits.detach().double().requires_grad_()
    expected = F.cross_entropy(exact.flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (theirs,) = torch.autograd.grad(expected, exact)
    # Stored in bf16: half a unit in the last of 8 bits.
    assert (grad - theirs).norm() / theirs.norm() < 2**-8
    assert not grad[1, 20:].any()
