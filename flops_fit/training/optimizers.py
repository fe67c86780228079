"""AdamW with weight decay on matrices only, and what happens to gradients before its step."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from flops_fit.records import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Decays weights of two or more dimensions, not biases and norms; fused where the device has it."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in trained)
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        fused=fused,
    )


def scale_gradients(parameters: Sequence[nn.Parameter], scale: float, max_norm: float | None) -> torch.Tensor | None:
    """Multiplies all gradients by ``scale``, then clips them to a global norm of ``max_norm``, in one pass.

    Returns:
        The norm before clipping, on the device and without waiting for it; None where there is no clipping.
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
