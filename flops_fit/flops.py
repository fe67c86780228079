"""How many FLOPs does one token of training cost this very model?

Counted, not assumed: `torch.utils.flop_counter` over one forward and backward pass on fake tensors, which hold no
data. Attention is counted dense; element-wise operations and custom kernels count zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from flops_fit.data.sources import SampleSource


@dataclass(frozen=True, kw_only=True)
class FlopCount:
    """FLOPs of one token, forward and backward."""

    dense: float
    method: str
    """"fake" (nothing was computed) or "cpu" (two samples were)."""


def measure_flops_per_token(
    make_model: Callable[[], nn.Module],
    data: SampleSource,
    loss: Callable[[nn.Module, Any], torch.Tensor],
) -> FlopCount:
    """Counts the training FLOPs per token of a model on the shapes of two samples.

    Args:
        make_model: Builds the model on the current default device.
        data: Gives the samples.
        loss: ``loss(model, batch)`` runs the forward pass.
    """
    count = 2 if data.num_samples is None or data.num_samples > 1 else 1
    batch = data.batch(np.arange(count, dtype=np.int64))
    try:
        total, method = _count_fake(make_model, batch, loss), "fake"
    except Exception:
        # Shapes that depend on data cannot be faked; whatever else is wrong, the real pass will say it.
        total, method = _count_real(make_model, batch, loss), "cpu"
    return FlopCount(dense=total / (count * data.tokens_per_sample), method=method)


def _count_fake(make_model: Callable[[], nn.Module], batch: Any, loss: Callable[[nn.Module, Any], torch.Tensor]) -> int:
    # On CPU tensors attention and LSTM count zero (pytorch 2.13), on meta they are right; plain meta fails where
    # mask code reads values, fake tensors do not.
    with FakeTensorMode(), torch.device("meta"):
        model = make_model()
        fake = tree_map(lambda x: torch.empty(x.shape, dtype=x.dtype) if isinstance(x, torch.Tensor) else x, batch)
        with FlopCounterMode(display=False) as counter:
            loss(model, fake).backward()
    return int(counter.get_total_flops())


def _count_real(make_model: Callable[[], nn.Module], batch: Any, loss: Callable[[nn.Module, Any], torch.Tensor]) -> int:
    model = make_model()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss(model, batch).backward()
    return int(counter.get_total_flops())
