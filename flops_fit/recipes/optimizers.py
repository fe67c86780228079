"""Optimizers by name. A new one is one function that builds it from the model and the recipe, and one line below.

The loop sets ``lr`` of every parameter group before each step; checkpoints save ``state_dict()["state"]``, so a state
holds tensors only. Nothing here may depend on the length of the run, or runs of one size could not share a trunk.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flops_fit.recipes.registry import look_up
from flops_fit.records import Recipe

if TYPE_CHECKING:  # Planning checks the names and imports no torch.
    import torch
    from torch import nn

Builder = Callable[["nn.Module", Recipe], "torch.optim.Optimizer"]


def make_optimizer(model: "nn.Module", recipe: Recipe) -> "torch.optim.Optimizer":
    """Builds the optimizer that the recipe names.

    Raises:
        ConfigError: If the name is unknown, or the optimizer cannot train this model.
    """
    return look_up(OPTIMIZERS, "optimizer", recipe.optimizer)(model, recipe)


def adamw(model: "nn.Module", recipe: Recipe) -> "torch.optim.Optimizer":
    """Decays weights of two or more dimensions, not biases and norms; fused where the device has it."""
    return adamw_for((p for p in model.parameters() if p.requires_grad), recipe)


def adamw_for(parameters: "Iterable[nn.Parameter]", recipe: Recipe) -> "torch.optim.AdamW":
    """Builds AdamW, as `adamw` does, for some of a model's parameters."""
    from torch.optim import AdamW

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


def muon(model: "nn.Module", recipe: Recipe) -> "torch.optim.Optimizer":
    """Muon for hidden weight matrices and AdamW for the rest (`recipes.muon`)."""
    from flops_fit.recipes.muon import MuonWithAdamW

    return MuonWithAdamW(model, recipe)


OPTIMIZERS: dict[str, Builder] = {"adamw": adamw, "muon": muon}
