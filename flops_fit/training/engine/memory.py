"""Memory: what a sample needs for its backward pass, and what is free."""

from collections.abc import Callable

import torch
from torch import nn

from flops_fit.memory import free_host_bytes


def bytes_per_sample(model: nn.Module, forward: Callable[[], torch.Tensor]) -> int:
    """Counts what a forward pass saves for its backward pass, beside the weights.

    Args:
        model: Its weights do not count, they are there once for all samples.
        forward: Runs the model on one sample and returns the loss.
    """
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    del loss  # Alive until here, so that no two saved tensors shared an address.
    return sum(saved.values())


def free_bytes(device: torch.device) -> int:
    """Returns the memory that is free now on the device, or on the host for a CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_host_bytes()
