"""Gradients between the backward pass and the optimizer's step: scaling and clipping in one pass."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.tensor import DTensor


def scale_gradients(parameters: Sequence[nn.Parameter], scale: float, max_norm: float | None) -> torch.Tensor | None:
    """Multiplies all gradients by ``scale``, then clips them to a global norm of ``max_norm``, in one pass.

    Returns:
        The norm before clipping, on the device and without a sync; None where nothing is clipped.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return None
    if max_norm is None:
        if scale != 1.0:
            torch._foreach_mul_(gradients, scale)
        return None
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) * scale
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    # The epsilon is that of torch.nn.utils.clip_grad_norm_.
    torch._foreach_mul_(gradients, scale * torch.clamp(max_norm / (norm + 1e-6), max=1.0))
    return norm
