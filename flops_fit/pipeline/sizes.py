"""Sizes of the final model: counted and measured only where a search asks for them."""

from bisect import bisect_right
from functools import cache

from flops_fit.errors import ConfigError, PlanError
from flops_fit.pipeline.architecture import SHAPE
from flops_fit.quantities import format_flops
from flops_fit.records import ModelProbe
from flops_fit.tasks import Task, probe_sizes

STEP = 2 * SHAPE["n_head"]
"""Sizes are multiples of it."""


class Sizes:
    """The sizes from ``min_size`` to ``max_size``, ascending; N and FLOPs grow with them."""

    def __init__(self, task: Task, min_size: int, max_size: int) -> None:
        self._task = task
        self._sizes = range(-(-min_size // STEP) * STEP, max_size + 1, STEP)
        if not self._sizes:
            raise ConfigError(
                f"pipeline.min_size={min_size}, max_size={max_size}: no multiple of {STEP} lies between them. "
                "Try pipeline.max_size=256."
            )
        self._probe = cache(self._measure)

    def nearest(self, num_params: float, most: ModelProbe) -> ModelProbe:
        """The size whose N comes nearest, as a factor, among those up to ``most``."""
        sizes = [size for size in self._sizes if size <= most.size_param_value]
        above = bisect_right(sizes, num_params, key=lambda size: self._probe(size).num_params)
        around = [self._probe(size) for size in sizes[max(0, above - 1) : above + 1]]
        return min(around, key=lambda p: max(p.num_params / num_params, num_params / p.num_params))

    def largest(self, compute: float, num_tokens: int, what: str) -> ModelProbe:
        """The largest size for which C(N, D) is at most ``compute``.

        Raises:
            PlanError: If none is so small.
        """
        count = bisect_right(self._sizes, compute, key=lambda size: flops_per_token(self._probe(size)) * num_tokens)
        if not count:
            needed = flops_per_token(self._probe(self._sizes[0])) * num_tokens
            raise PlanError(
                f"{what} are {num_tokens:,} tokens, and the smallest model needs {format_flops(needed)} FLOPs for "
                f"them, expected at most pipeline.compute={compute:.3g}. Try fewer --epochs, or "
                f"pipeline.compute={1.2 * needed:.1e}."
            )
        return self._probe(self._sizes[count - 1])

    def smallest(self) -> ModelProbe:
        """The smallest size."""
        return self._probe(self._sizes[0])

    def _measure(self, size: int) -> ModelProbe:
        ((probe,), _) = probe_sizes(self._task, [size], measure=True)
        return probe


def flops_per_token(probe: ModelProbe) -> float:
    """FLOPs per token, forward and backward, as measured on the model."""
    assert probe.flops_per_token is not None
    return probe.flops_per_token
