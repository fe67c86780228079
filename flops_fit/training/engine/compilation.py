"""torch.compile, so that a run is compiled alike in each process that goes on with it."""

from typing import cast

import torch
from torch import nn


def compiled(model: nn.Module, device: torch.device, *, is_split: bool) -> nn.Module:
    """Returns the model as it is called; it is compiled by its first forward pass.

    What this process has compiled before is forgotten, and each shape has a graph of its own: else the code of a run
    would depend on the runs before it, and a resumed run would differ in its last bits.

    Args:
        model: On its device.
        device: CUDA graphs are used on GPUs, where starting kernels one by one can take longer than the kernels.
        is_split: Whether several backward passes add up to one step. Then there are no CUDA graphs: autograd keeps
            the gradient of the first pass where a graph has put it, and the next replay writes over it (PyTorch
            issue 169545, open; 96693 has a case where the sum is silently that of the last pass alone).
    """
    torch.compiler.reset()  # type: ignore[no-untyped-call]
    mode = "reduce-overhead" if device.type == "cuda" and not is_split else None
    return cast(nn.Module, torch.compile(model, mode=mode, dynamic=False))
