"""How much memory does a sample need, and how much is there?"""

import os
from collections.abc import Callable
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")


def bytes_per_sample(forward: Callable[[], torch.Tensor]) -> int:
    """Counts what a forward pass saves for its backward pass, weights left out where they are shared with it.

    Args:
        forward: Runs the model on one sample and returns the loss.
    """
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(saved.values())


def free_bytes(device: torch.device) -> int:
    """Returns the memory that is free now on the device, or on the host for a CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if MEMINFO.exists():
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
