"""The machine and its launcher: what is here, and what was announced."""

import platform
import sys
from typing import Any

import torch

from flops_fit.distributed import announced_processes


def describe_machine() -> dict[str, Any]:
    """Returns what an issue needs to know: versions, devices, threads."""
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
        "device": "cpu" if device is None else str(device),
        "devices": 0 if device is None else torch.accelerator.device_count(),
        "cpu_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "world_size": announced_processes(),
    }
