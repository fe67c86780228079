"""Replicas: one model on several processes, kept equal by the sum of its gradients and the main process' buffers.

torch's DistributedDataParallel is not used. It must know before the backward pass which parameters will get a
gradient, or search the graph for them at each step, and where experts or adapters are chosen by the data no step
tells that of the next. Here gradients are summed once the backward passes of a step are done and every process has
reported what it lacks, so a step on N processes has the gradients it has on one: zero from a process that has not
used a parameter, and none at all, as on one process, for a parameter that no process has used. What raises in a
backward pass on one process also raises on all, at any step.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from flops_fit.distributed import World

# Gradients are sent together up to this size (that of DistributedDataParallel), so many parcels at a time.
BUCKET_BYTES = 25 * 2**20
IN_FLIGHT = 3
# Steps after which buffers are compared by value.
COMPARED_STEPS = 2


class Replicas:
    """What the copies of one model exchange at each step."""

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter], world: World) -> None:
        self._world = world
        self._parameters = parameters
        self._buffers = [(module, name) for module in model.modules() for name in module._buffers]
        self._first = [None if b is None else b.detach().clone() for b in self._read()]
        self._seen = [_version(b) for b in self._read()]
        self._changing: set[int] = set()
        self._steps = 0

    def missing(self) -> int:
        """Counts the parameters that have no gradient on this process."""
        return sum(p.grad is None for p in self._parameters)

    def newly_changed(self) -> int:
        """Counts the buffers that this step has changed on this process and no step before.

        Seen by the counter that torch keeps of writes to a tensor. Some writes escape it, those of BatchNorm and
        through ``.data``: after the first steps values are compared too.
        """
        buffers, before = self._read(), set(self._changing)
        self._steps += 1
        for i, buffer in enumerate(buffers):
            version = _version(buffer)
            if version != self._seen[i] or (self._first and not _equal(self._first[i], buffer)):
                self._changing.add(i)
            self._seen[i] = version
        if self._steps == COMPARED_STEPS:
            self._first = []
        return len(self._changing - before)

    def sum_gradients(self, *, some_missing: bool) -> None:
        """Adds the gradients up over all processes; parameters that none of them has used keep None.

        Args:
            some_missing: Whether `missing` is positive on any process; the same on all.
        """
        used = list(self._parameters)
        if some_missing:
            flags = torch.tensor([p.grad is not None for p in self._parameters], dtype=torch.int32)
            counts = self._world.sum(flags, what="the list of parameters in use").tolist()
            used = [p for p, count in zip(self._parameters, counts, strict=True) if count]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        sent: deque[tuple[list[torch.Tensor], torch.Tensor, Any]] = deque()
        with self._world.limited("the sum of the gradients"):
            for bucket in _buckets([_as_real(p.grad) for p in used if p.grad is not None]):
                flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
                sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
                if len(sent) > IN_FLIGHT:
                    _put_back(*sent.popleft())
            while sent:
                _put_back(*sent.popleft())

    def copy_buffers(self, *, some_new: bool) -> None:
        """Gives the buffers that training changes the main process' values; constants are left alone.

        Args:
            some_new: Whether `newly_changed` is positive on any process; the same on all.
        """
        if some_new:
            self._changing = set().union(*self._world.gather(self._changing))
        if self._changing:
            buffers = self._read()
            self._world.copy_from_main([b for i in sorted(self._changing) if (b := buffers[i]) is not None])
            for i in self._changing:
                self._seen[i] = _version(buffers[i])

    def _read(self) -> list[torch.Tensor | None]:
        return [module._buffers[name] for module, name in self._buffers]


def _version(buffer: torch.Tensor | None) -> tuple[int, int]:
    return (0, 0) if buffer is None else (id(buffer), buffer._version)


def _equal(before: torch.Tensor | None, now: torch.Tensor | None) -> bool:
    if before is None or now is None:
        return before is now
    return torch.equal(before, now)


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Groups neighbours of one type, at most BUCKET_BYTES in a group of more than one."""
    bucket: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or size + tensor.nbytes > BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def _put_back(bucket: list[torch.Tensor], flat: torch.Tensor, work: Any) -> None:
    work.wait()
    parts = torch.split(flat, [gradient.numel() for gradient in bucket])
    torch._foreach_copy_(bucket, [part.view_as(g) for part, g in zip(parts, bucket, strict=True)])


def _as_real(tensor: torch.Tensor) -> torch.Tensor:
    """Complex numbers as pairs: not every backend adds them."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
