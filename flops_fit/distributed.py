"""The world of a run: which device, how many processes, and the collectives between them."""

import contextlib
import gc
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator, InitProcessGroupKwargs

from flops_fit.announced import WORKING_COMMANDS, announced_processes, refuse_silent_launchers
from flops_fit.errors import LaunchError, ModelFailed, RankLost
from flops_fit.stopping import signal_at_death_of_parent

T = TypeVar("T")

# How long a process that raised where others may wait for it waits for them to raise too.
PATIENCE = timedelta(seconds=30)
# How long a process waits for the others in a collective call before it ends with an error. Longer than a step, a
# checkpoint of a large model, a compilation or the first read of a data set; short beside the hours of a hung job.
TIMEOUT = timedelta(minutes=15)

logger = logging.getLogger(__name__)
_OPEN: "list[World]" = []


@dataclass(frozen=True, eq=False)
class World:
    """The processes that train one run together."""

    accelerator: Accelerator
    host_group: Any = None
    """For messages between hosts: they neither wait for a GPU nor mix with the gradients."""
    is_sharded: bool = False
    """Whether each process holds a part of the model (FSDP)."""
    neighbours: int = 0
    """Other processes, each with a world of its own, that use the same memory: this GPU's, or the host's."""

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

    def sum(self, values: torch.Tensor, *, what: str = "a sum") -> torch.Tensor:
        """Adds a tensor over all processes; every one must call it."""
        if self.size > 1:
            # NCCL has no boolean or integer sums on the host; what lies there goes through the host's group.
            group = self.host_group if values.device.type == "cpu" else None
            with self.limited(what):
                dist.all_reduce(values, group=group)
        return values

    def copy_from_main(self, tensors: Iterable[torch.Tensor]) -> None:
        """Gives tensors the main process' values on every process."""
        if self.size > 1:
            with self.limited("the main process' weights or buffers"):
                for tensor in tensors:
                    # Backends send dense rows only: not channels that come last, nor one number expanded to many.
                    dense = tensor.detach().contiguous()
                    dist.broadcast(dense, src=0)
                    if dense.data_ptr() != tensor.data_ptr() and 0 not in tensor.stride():
                        tensor.detach().copy_(dense)

    def agree(self, value: Any) -> Any:
        """Returns the main process' value on every process."""
        if self.size == 1:
            return value
        box = [value]
        with self.limited("a decision of the main process"):
            dist.broadcast_object_list(box, src=0, group=self.host_group)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Returns every process' value, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self.limited("what each process found"):
            dist.all_gather_object(values, value, group=self.host_group)
        return values

    def exchange(self, values: Sequence[float], problem: Exception | None, *, what: str) -> list[float]:
        """Returns the sum of each value over all processes; what raised on one process raises on all.

        Args:
            values: Of this process.
            problem: What it raised, None for nothing.
            what: The work that ends here, named where the other processes do not come to its end.

        Raises:
            ModelFailed: If any process has a problem.
            torch.OutOfMemoryError: If any process has run out of memory.
        """
        sums = torch.tensor([*values, problem is not None], dtype=torch.float64)
        *totals, problems = self.sum(sums, what=what).tolist()
        if problems:
            self._raise_everywhere(problem)
        return totals

    def together(self, act: Callable[[], T], *, what: str = "a common task", waiting: bool = False) -> T:
        """Returns what ``act`` does here; what it raises on one process is raised on all.

        Args:
            act: Raises or returns.
            what: Names it, as in `exchange`.
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
        self.exchange((), problem, what=what)
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
            self.exchange((), error, what="the report of an error")

    @contextlib.contextmanager
    def limited(self, what: str) -> Iterator[None]:
        """Turns the error of a collective call into one that says who waited, in what, and for how long.

        Raises:
            RankLost: If the call raises: another process has ended, or does not come within `TIMEOUT`.
        """
        started = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            waited = time.monotonic() - started
            cause = (
                f"longer than the limit of {TIMEOUT.total_seconds():.0f} s: at least one of them hangs, or waits in "
                "another collective call (of the model's or the data set's own?)"
                if waited >= TIMEOUT.total_seconds()
                else "and lost the connection: at least one of them has ended"
            )
            raise RankLost(
                f"process {self.rank} of {self.size} waited {waited:.0f} s for the others in {what}, {cause}. "
                "Read what the others wrote; then run the same command again: it resumes from the last checkpoint."
            ) from error

    def _wait_until_all_raise(self, problem: Exception) -> None:
        if isinstance(problem, RankLost):
            raise problem
        # Through the store, since the others may hang in a collective call that this process will never join.
        store = dist.distributed_c10d._get_default_store()
        turn, missing = divmod(store.add("flops_fit/raised", 1) - 1, self.size)
        if missing == self.size - 1:
            store.set(f"flops_fit/all_raised/{turn}", "")
        try:
            store.wait([f"flops_fit/all_raised/{turn}"], PATIENCE)
        except RuntimeError:
            raise RuntimeError(
                f"process {self.rank} of {self.size} raised the error above and the others did not: they cannot go on "
                "together. The launcher ends them; nothing of this run was recorded. "
                "Run the same command again: it resumes from the last checkpoint."
            ) from problem

    def _raise_everywhere(self, problem: Exception | None) -> NoReturn:
        report = None if problem is None else "".join(traceback.format_exception(problem))
        reports, out_of_memory = zip(*self.gather((report, isinstance(problem, torch.OutOfMemoryError))), strict=True)
        text = "\n".join(f"process {i} raised:\n{r}" for i, r in enumerate(reports) if r)
        raise (torch.OutOfMemoryError if any(out_of_memory) else ModelFailed)(text) from problem


@contextlib.contextmanager
def open_world(*, neighbours: int = 0) -> Iterator[World]:
    """Opens the world that the launcher announced: WORLD_SIZE, and ACCELERATE_USE_FSDP for a sharded model.

    Within an open one it is that one again: a pipeline's sweep and its final training are one launch.

    Args:
        neighbours: Of other worlds beside this one, see `World`.

    Raises:
        LaunchError: If Accelerate sees another number of processes than WORLD_SIZE says, or none was told of the
            others: each would train alone.
    """
    if _OPEN and not neighbours:
        yield _OPEN[-1]
        return
    refuse_silent_launchers()
    announced = announced_processes()
    # Without cpu=True, N processes on a machine without a GPU each believe they are the only one.
    try:
        accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),
            mixed_precision="no",
            kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)],
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
        # torchrun's ranks would else go on and on without it.
        signal_at_death_of_parent(signal.SIGKILL)
    is_sharded = announced > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    world = World(accelerator, _host_group(), is_sharded, neighbours)
    _OPEN.append(world)
    try:
        yield world
    finally:
        _OPEN.remove(world)
    if world.size > 1:
        # Without the barrier a process can end while another still talks to it, and gloo aborts; it also aborts
        # where a wrapped model that waits for the collector still holds the group when the interpreter ends.
        gc.collect()
        dist.barrier()
        accelerator.end_training()


def _host_group() -> Any:
    if dist.is_initialized():
        return dist.new_group(backend="gloo", timeout=TIMEOUT)
    return None
