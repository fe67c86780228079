"""In which world do we run: which device, how many processes, and does Accelerate see them all?"""

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from flops_fit.errors import LaunchError

WORKING_COMMANDS = (
    "Start with `torchrun --nproc_per_node N -m flops_fit ...` or "
    "`accelerate launch --multi_gpu --num_processes N -m flops_fit ...` (also on CPU, without --cpu)."
)


@dataclass(frozen=True, eq=False)
class World:
    """The processes that train one run together."""

    accelerator: Accelerator

    @property
    def size(self) -> int:
        """How many processes there are."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return int(self.accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device(self.accelerator.device)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Moves a model to the device and wraps it for several processes."""
        if self.size == 1:
            return model.to(self.device)
        prepared: nn.Module = self.accelerator.prepare_model(model)
        return prepared

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Adds a tensor over all processes; every one must call it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agree(self, value: Any) -> Any:
        """Returns the main process' value on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


@contextlib.contextmanager
def open_world() -> Iterator[World]:
    """Opens the world that the launcher announced.

    Raises:
        LaunchError: If Accelerate sees another number of processes than WORLD_SIZE says: each would train alone.
    """
    announced = int(os.environ.get("WORLD_SIZE", "1"))
    # Without cpu=True, N processes on a machine without a GPU each believe they are the only one.
    try:
        accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision="no")
    except ValueError as error:
        raise LaunchError(
            f"WORLD_SIZE={announced} is set, but not all that a launcher sets with it: {error}. {WORKING_COMMANDS}"
        ) from error
    if accelerator.num_processes != announced:
        raise LaunchError(
            f"the launcher announced WORLD_SIZE={announced} and Accelerate sees {accelerator.num_processes} "
            f"processes. {WORKING_COMMANDS}"
        )
    world = World(accelerator)
    yield world
    if world.size > 1:
        # Without the barrier a process can end while another still talks to it, and gloo aborts.
        dist.barrier()
        accelerator.end_training()


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
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
    }
