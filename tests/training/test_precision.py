import pytest
import torch
from torch.nn import functional as F

from flops_fit.training.engine.precision import half_precision_of, precision_context

CPU = torch.device("cpu")


def attention():
    q, k, v = torch.randn(3, 2, 4, 32, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_products_are_of_the_precision_asked_for(precision):
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    with precision_context(precision, False, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize("has_bf16", [True, False])
def test_fp16_is_for_a_gpu_without_bf16(monkeypatch, has_bf16):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert half_precision_of(torch.device("cuda")) == ("bf16" if has_bf16 else "fp16")
    assert half_precision_of(CPU) == "bf16"


def test_plain_attention_is_the_same_attention():
    exact = attention()
    with precision_context("bf16", True, CPU):
        plain = attention()
    assert plain.dtype == torch.bfloat16
    # bf16 keeps 8 bits.
    assert (plain - exact).norm() / exact.norm() < 2**-7


def test_nothing_is_left_switched_on():
    with precision_context("bf16", True, CPU):
        assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert not torch.is_autocast_enabled("cpu")
