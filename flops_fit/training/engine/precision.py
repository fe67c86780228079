"""Precision: the arithmetic of a forward pass."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

Precision = Literal["fp32", "bf16", "fp16"]


def precision_context(
    precision: Precision, plain_attention: bool, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """Returns the context of a forward pass.

    Args:
        precision: bf16 and fp16 are autocast.
        plain_attention: Whether `scaled_dot_product_attention` uses plain 16-bit matrix products, not the fused kernel.
        device: Where the model is.
    """
    if precision == "fp32":
        return contextlib.nullcontext()
    autocast = torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
    return _plain(autocast) if plain_attention else autocast


def half_precision_of(device: torch.device) -> Precision:
    """Returns bf16; fp16 for a GPU that has no units for bf16."""
    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 else "fp16"


@contextlib.contextmanager
def _plain(autocast: torch.autocast) -> Iterator[None]:
    # The CPU's fused kernel is slow in bf16 at short context: at T=256 and K=32, forward and backward take 33 ms
    # with it, 18 ms without; at T=1024 it wins. Without the allowance the plain form computes in fp32.
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()  # type: ignore[no-untyped-call]
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with autocast, sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)
