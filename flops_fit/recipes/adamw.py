"""AdamW for some of a model's parameters: all of them, or those that another optimizer leaves."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import AdamW

from flops_fit.records import Recipe


def adamw_for(parameters: Iterable[nn.Parameter], recipe: Recipe) -> AdamW:
    """Builds AdamW, as `adamw` does, for some of a model's parameters."""
    trained = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in trained)
    return AdamW(
        [g for g in groups if g["params"]],
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        fused=fused,
    )
