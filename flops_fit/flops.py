"""FLOPs of one token of training, of this very model.

Counted, not assumed: `torch.utils.flop_counter` over one forward and backward pass on fake tensors, which hold no
data. Matrix products and convolutions count; element-wise operations, scans and custom kernels count zero, so that
a model made of those needs its own ``flops_per_token()``. Activation checkpointing counts what it computes again.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from flops_fit.errors import ContractError

Loss = Callable[[nn.Module, Any], torch.Tensor]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FlopCount:
    """FLOPs of one token, forward and backward."""

    dense: float
    """Attention counted as if every token saw every other one, as the usual formulas do."""
    causal: float
    """Without the pairs that `scaled_dot_product_attention(is_causal=True)` skips; a mask given as a tensor or made
    by hand is not seen."""
    method: str
    """"fake" (nothing was computed), "cpu" (two samples were) or "6N" (the counter saw no product: an assumption)."""


def measure_flops_per_token(
    make_model: Callable[[], nn.Module], batch: Any, num_tokens: int, loss: Loss, *, may_compute: bool = True
) -> FlopCount:
    """Counts the training FLOPs per token of a model on the shapes of one batch.

    Args:
        make_model: Builds the model on the current default device.
        batch: Of at least two samples where there are so many: some models treat a batch of one in another way.
        num_tokens: Tokens in the batch: targets that count. Padding costs FLOPs and is shared among them.
        loss: ``loss(model, batch)`` runs the forward pass.
        may_compute: Whether a real model may be built where fake tensors fail.

    Raises:
        ContractError: If fake tensors fail and a real model must not be built.
    """
    try:
        (dense, skipped, num_params), method = _count_fake(make_model, batch, loss), "fake"
    except Exception as error:
        # Shapes that depend on data cannot be faked; whatever else is wrong, the real pass will say it.
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if not may_compute:
            raise ContractError(
                f"FLOPs cannot be counted on fake tensors ({reason}), and real ones of this size take more than 1 GB. "
                "Give the model a flops_per_token() method, or lower the largest size."
            ) from error
        logger.info("FLOPs are counted on real samples: %s", reason)
        (dense, skipped, num_params), method = _count_real(make_model, batch, loss), "cpu"
    if dense == 0:
        logger.warning(
            "no FLOPs were counted in a model of %d parameters: custom kernels count zero. 6N = %.3g per token is "
            "ASSUMED; give the model a flops_per_token() method.",
            num_params,
            6 * num_params,
        )
        return FlopCount(dense=6.0 * num_params, causal=6.0 * num_params, method="6N")
    return FlopCount(dense=dense / num_tokens, causal=(dense - skipped) / num_tokens, method=method)


def _count_fake(make_model: Callable[[], nn.Module], batch: Any, loss: Loss) -> tuple[int, float, int]:
    # On CPU tensors attention and LSTM count zero (pytorch 2.13), on meta they are right; plain meta fails where
    # mask code reads values, fake tensors do not. Models may hold constants that are not fake (an empty KV cache).
    with _quiet(), FakeTensorMode(allow_non_fake_inputs=True), torch.device("meta"):
        model = make_model()
        fake = tree_map(lambda x: torch.empty(x.shape, dtype=x.dtype) if isinstance(x, torch.Tensor) else x, batch)
        return _count(model, fake, loss)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch from printing a traceback for what fake tensors cannot do: real ones are tried then."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _count_real(make_model: Callable[[], nn.Module], batch: Any, loss: Loss) -> tuple[int, float, int]:
    # Fused attention and recurrent kernels of the CPU count zero; their plain forms are products.
    with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        return _count(make_model(), batch, loss)


def _count(model: nn.Module, batch: Any, loss: Loss) -> tuple[int, float, int]:
    """Returns the dense FLOPs, those of them that causal attention skips, and the parameters."""
    mapping = {torch.ops.aten.convolution_backward: _conv_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter, _SkippedByCausality() as skipped:
        value = loss(model, batch)
        skipped.in_backward = True
        value.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops()), skipped.flops, sum(p.numel() for p in model.parameters())


class _SkippedByCausality(TorchFunctionMode):
    """Adds up what `is_causal=True` spares, since the counter takes attention as dense."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0
        self.in_backward = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and (kwargs.get("is_causal") or (len(args) > 5 and args[5])):
            query, key, value = (*args, *(kwargs[k] for k in ("query", "key", "value")[len(args) :]))[:3]
            (*heads, T, K), S = query.shape, key.shape[-2]
            forward = 2 * prod(heads) * T * S * (K + value.shape[-1])
            seen = sum(min(t + 1, S) for t in range(T)) / (T * S)
            # Backward is twice the forward; an attention computed again in backward has its share there already.
            trained = query.requires_grad and torch.is_grad_enabled() and not self.in_backward
            self.flops += forward * (3 if trained else 1) * (1 - seen)
        return func(*args, **kwargs)


def _conv_backward_flops(
    grad_shape: Any, x_shape: Any, w_shape: Any, _bias: Any, _stride: Any, _padding: Any, _dilation: Any,
    transposed: bool, _output_padding: Any, _groups: int, output_mask: Any, *_: Any, **__: Any,
) -> int:  # fmt: skip
    """Each gradient costs what the forward pass did; torch 2.13 counts that of grouped weights once per group."""
    forward = conv_flop_count(list(x_shape), list(w_shape), list(grad_shape), transposed=transposed)
    return int(forward) * (int(output_mask[0]) + int(output_mask[1]))
