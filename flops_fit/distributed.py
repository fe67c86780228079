"""The world of a run: which device, how many processes, and the collectives between them."""

import contextlib
import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from flops_fit.errors import LaunchError, ModelFailed

T = TypeVar("T")

PR_SET_PDEATHSIG = 1
# How long a process that raised where others may wait for it waits for them to raise too.
PATIENCE = timedelta(seconds=30)

WORKING_COMMANDS = (
    "Start with `torchrun --nproc_per_node N -m flops_fit ...` or "
    "`accelerate launch --multi_gpu --num_processes N -m flops_fit ...` (also on CPU, without --cpu)."
)


@dataclass(frozen=True, eq=False)
class World:
    """The processes that train one run together."""

    accelerator: Accelerator
    host_group: Any = None
    """For what the processes tell each other: no GPU has to be waited for, and no gradient is taken for an answer."""
    is_sharded: bool = False
    """Whether each process holds a part of the model (FSDP)."""
    neighbours: int = 0
    """Other processes, each with a world of its own, that take of the same memory: of this GPU's, or of the host's."""

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

    @property
    def memory_shares(self) -> int:
        """How many processes share the memory that this one sees; each GPU has its own."""
        ranks = 1 if self.device.type != "cpu" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return ranks * (1 + self.neighbours)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Moves a model to the device, and wraps or shards it for several processes."""
        if self.is_sharded:
            return _shard(model, self.device.type, self.size)
        if self.size == 1:
            return model.to(self.device)
        # Accelerate holds on to what it has prepared: a sweep would keep every model of it.
        self.accelerator.free_memory()
        prepared: nn.Module = self.accelerator.prepare_model(model)
        return prepared

    @contextlib.contextmanager
    def no_sync(self, model: nn.Module) -> Iterator[None]:
        """Within this, backward passes through a prepared model add up gradients on this process alone."""
        if not isinstance(model, FSDPModule):
            with model.no_sync():  # type: ignore[operator]
                yield
            return
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Adds a tensor over all processes; every one must call it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def copy_from_main(self, tensors: Iterable[torch.Tensor]) -> None:
        """Gives tensors the main process' values on every process."""
        for tensor in tensors:
            dist.broadcast(tensor, src=0)

    def agree(self, value: Any) -> Any:
        """Returns the main process' value on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.host_group)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Returns every process' value, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.host_group)
        return values

    def exchange(self, count: float, wish: bool, problem: Exception | None) -> tuple[float, bool]:
        """Returns the sum of all counts and the main process' wish; what raised on one process raises on all.

        Raises:
            ModelFailed: If any process has a problem.
            torch.OutOfMemoryError: If any process has run out of memory.
        """
        values = torch.tensor([count, wish and self.is_main, problem is not None], dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(values, group=self.host_group)
        total, wished, problems = values.tolist()
        if problems:
            self._raise_everywhere(problem)
        return total, wished > 0

    def together(self, act: Callable[[], T], *, waiting: bool = False) -> T:
        """Returns what ``act`` does here; what it raises on one process is raised on all.

        Args:
            act: Raises or returns.
            waiting: Whether the processes wait for each other in it (see `waiting`).
        """
        if self.size == 1:
            return act()
        problem = None
        try:
            value = act()
        except Exception as error:
            problem = error
            if waiting:
                self._wait_until_all_raise(problem)
        self.exchange(0, False, problem)
        return value

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Within this the processes wait for each other: what all raise is one decision, what some raise ends all.

        Raises:
            ModelFailed: If all raise something.
            torch.OutOfMemoryError: If all raise, and one has run out of memory.
            RuntimeError: If this process raises and not all others do.
        """
        try:
            yield
        except Exception as error:
            self._wait_until_all_raise(error)
            self.exchange(0, False, error)

    def _wait_until_all_raise(self, problem: Exception) -> None:
        # Through the store, since the others may hang in a collective call that this process will never join.
        store = dist.distributed_c10d._get_default_store()
        turn, missing = divmod(store.add("flops_fit/raised", 1) - 1, self.size)
        if missing == self.size - 1:
            store.set(f"flops_fit/all_raised/{turn}", "")
        try:
            store.wait([f"flops_fit/all_raised/{turn}"], PATIENCE)
        except RuntimeError:
            raise RuntimeError(
                f"process {self.rank} of {self.size} raised what stands above, and the others, which did not, wait for "
                "it: they cannot go on together. The launcher ends them; nothing of this run was recorded. "
                "Run the same command again: it goes on from the last checkpoint."
            ) from problem

    def _raise_everywhere(self, problem: Exception | None) -> NoReturn:
        report = None if problem is None else "".join(traceback.format_exception(problem))
        reports, out_of_memory = zip(*self.gather((report, isinstance(problem, torch.OutOfMemoryError))), strict=True)
        text = "\n".join(f"process {i} raised:\n{r}" for i, r in enumerate(reports) if r)
        raise (torch.OutOfMemoryError if any(out_of_memory) else ModelFailed)(text) from problem


def announced_processes() -> int:
    """Returns how many processes a launcher has announced in WORLD_SIZE; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def open_world(*, neighbours: int = 0) -> Iterator[World]:
    """Opens the world that the launcher announced: WORLD_SIZE, and ACCELERATE_USE_FSDP for a sharded model.

    Args:
        neighbours: Of other worlds beside this one, see `World`.

    Raises:
        LaunchError: If Accelerate sees another number of processes than WORLD_SIZE says: each would train alone.
    """
    announced = announced_processes()
    # Without cpu=True, N processes on a machine without a GPU each believe they are the only one.
    try:
        accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),
            mixed_precision="no",
            # Else each forward pass would wait for the main process, which may have raised.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
    except ValueError as error:
        raise LaunchError(
            f"WORLD_SIZE={announced} is set, but not all that a launcher sets with it: {error}. {WORKING_COMMANDS}"
        ) from error
    if accelerator.num_processes != announced:
        raise LaunchError(
            f"the launcher announced WORLD_SIZE={announced} and Accelerate sees {accelerator.num_processes} "
            f"processes. {WORKING_COMMANDS}"
        )
    if announced > 1:
        _end_with_launcher()
    is_sharded = announced > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    world = World(accelerator, _host_group(), is_sharded, neighbours)
    yield world
    if world.size > 1:
        # Without the barrier a process can end while another still talks to it, and gloo aborts; it also aborts
        # where a wrapped model that waits for the collector still holds the group when the interpreter ends.
        gc.collect()
        dist.barrier()
        accelerator.end_training()


def _end_with_launcher() -> None:
    """Lets this process be killed when its launcher is: torchrun's ranks would else go on and on without it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _shard(model: nn.Module, device_type: str, size: int) -> nn.Module:
    """Splits the layers of a model over all processes, each layer of an ``nn.ModuleList`` on its own.

    With torch's FSDP2 itself: Accelerate shards on GPUs only, and together with an optimizer that it prepares.
    """
    mesh = init_device_mesh(device_type, (size,))
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList):
            for layer in module:
                fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def _host_group() -> Any:
    if dist.is_initialized():
        return dist.new_group(backend="gloo")
    return None
