"""Exponential moving average (EMA) of the weights; evaluated in their place where a recipe asks for it."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.tensor import DTensor


class WeightAverage:
    """The moving average of a model's trained weights, in float32 or finer; buffers are not averaged.

    After step t it moves towards the weights by 1 - min(decay, (1 + t) / (10 + t)), so that the initial weights are
    forgotten however short the run is: early on it spans about the last tenth of the steps (the rule of TensorFlow's
    ``tf.train.ExponentialMovingAverage`` with ``num_updates``). It depends on t, never on the length of the run,
    so runs of one trunk share it. Of a sharded model each process averages its own part.
    """

    def __init__(self, weights: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values = [_at_least_fp32(w.detach()).clone() for w in weights]
        self._own_values = [_own_part(value) for value in self.values]
        self._weights = [_own_part(w.detach()) for w in weights]

    def update(self, steps: int) -> None:
        """Moves the average towards the weights after ``steps`` steps."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._own_values, [_at_least_fp32(w) for w in self._weights], 1 - decay)

    def replace_weights(self) -> None:
        """Overwrites the weights with their average."""
        torch._foreach_copy_(self._weights, self._own_values)


def _own_part(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _at_least_fp32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
