"""The machine: versions, cores, memory, devices."""

import os
import platform
import sys
from typing import Any

import torch

from flops_fit.announced import announced_processes


def describe_machine() -> dict[str, Any]:
    """Returns what an issue needs to know, as plain values: versions, cores, memory, devices, world."""
    import accelerate
    import numpy
    import transformers

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_total_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "device": "cpu" if device is None else str(device),
        "devices": 0 if device is None else torch.accelerator.device_count(),
        "gpus": _gpus(),
        "world_size": announced_processes(),
    }


def _gpus() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in found]
