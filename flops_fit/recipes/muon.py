"""Muon for hidden weight matrices, AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces a matrix's momentum by the nearest
orthogonal matrix, computed by five Newton-Schulz iterations in bfloat16. Its step is scaled by 0.2 sqrt(max(rows,
columns)), so that its RMS is that of AdamW's and one learning rate and weight decay serve both (Moonlight, Liu et al.
2025, arXiv:2502.16982, equation 4). Momentum is Nesterov 0.95; ``beta1`` and ``beta2`` are those of the AdamW part.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from flops_fit.errors import ConfigError
from flops_fit.recipes.adamw import adamw_for
from flops_fit.records import Recipe


class MuonWithAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` and `torch.optim.AdamW` with the parameter groups and the state of one optimizer.

    Args:
        model: Whose parameters are trained.
        recipe: Learning rate, weight decay and betas.

    Raises:
        ConfigError: If the model has no hidden matrices, or torch has no Muon.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                f"sweep.recipe.optimizer=muon: got torch {torch.__version__}, expected 2.9 or newer. Update torch, or "
                "use sweep.recipe.optimizer=adamw."
            )
        matrices = hidden_matrices(model)
        if not matrices:
            raise ConfigError(
                f"sweep.recipe.optimizer=muon: {type(model).__name__} has no hidden weight matrices (nn.Linear "
                "other than the output layer). Use sweep.recipe.optimizer=adamw."
            )
        chosen = {id(p) for p in matrices}
        self._muon = torch.optim.Muon(
            matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
        self._adamw = adamw_for(rest, recipe) if rest else None
        adamw_groups = [] if self._adamw is None else self._adamw.param_groups
        super().__init__([*self._muon.param_groups, *adamw_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Makes one step of both."""
        assert closure is None, "a step of the loop has its gradients already"
        count = len(self._muon.param_groups)
        # Handed over anew each time: `load_state_dict` replaces both.
        self._muon.param_groups, self._muon.state = self.param_groups[:count], self.state
        self._muon.step()  # type: ignore[no-untyped-call]
        if self._adamw is not None:
            self._adamw.param_groups, self._adamw.state = self.param_groups[count:], self.state
            self._adamw.step()


def hidden_matrices(model: nn.Module) -> list[torch.Tensor]:
    """Returns the trained weights of ``nn.Linear`` layers that are neither an embedding nor the output layer.

    The output layer is the ``nn.Linear`` that shares its weight with an ``nn.Embedding``; where none does, the last one
    that the model registered. What this rule cannot see: an output layer registered before others, or several of
    them, count as hidden; where the output is computed without an ``nn.Linear``, the last hidden one goes to AdamW.
    Matrices outside ``nn.Linear`` (``nn.MultiheadAttention.in_proj_weight``, convolutions, the ``Conv1D`` of
    Hugging Face's GPT-2) go to AdamW, and a joint QKV matrix is orthogonalized as one.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    weights = {id(m.weight): m.weight for m in model.modules() if isinstance(m, nn.Linear)}
    output = [key for key in weights if key in tables] or list(weights)[-1:]
    return [w for key, w in weights.items() if key not in output and w.requires_grad and w.ndim == 2]
