"""Optimizers by name. A new one is one function that builds it from the model and the recipe, and one line below.

The loop sets ``lr`` of every parameter group before each step; checkpoints save ``state_dict()["state"]``, so a state
holds tensors only. Nothing here may depend on the length of the run, or runs of one size could not share a trunk.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

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
    from flops_fit.recipes.adamw import adamw_for

    return adamw_for((p for p in model.parameters() if p.requires_grad), recipe)


def muon(model: "nn.Module", recipe: Recipe) -> "torch.optim.Optimizer":
    """Muon for hidden weight matrices and AdamW for the rest (`recipes.muon`)."""
    from flops_fit.recipes.muon import MuonWithAdamW

    return MuonWithAdamW(model, recipe)


OPTIMIZERS: dict[str, Builder] = {"adamw": adamw, "muon": muon}
