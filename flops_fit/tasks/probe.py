"""Model sizes, each built without memory for its weights and counted: N and FLOPs per token."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from flops_fit.data.sources import SampleSource
from flops_fit.errors import ContractError, FlopsFitError
from flops_fit.flops import FlopCount, measure_flops_per_token
from flops_fit.quantities import format_count
from flops_fit.records import ModelProbe, Rejection
from flops_fit.tasks.loss import LossMissing, compute_loss
from flops_fit.tasks.model import create_model
from flops_fit.tasks.task import Task

# Largest model that is built with weights only to be counted, where the meta device cannot: 1 GB in float32.
MAX_REAL_PARAMS = 250_000_000
# By which parameters grow with a width, at most; depth alone adds them in proportion.
GROWTH = 2.0


def probe_sizes(
    task: Task, sizes: Sequence[int], *, measure: bool = False
) -> tuple[tuple[ModelProbe, ...], tuple[Rejection, ...]]:
    """Builds each size without memory for its weights, and counts it.

    Args:
        task: What to build. ``measure`` needs its ``train_data``.
        sizes: Values of the size parameter.
        measure: Whether to count FLOPs per token on one sample (`flops.measure_flops_per_token`).

    Returns:
        The usable sizes by ascending N, and the unusable ones with their reasons.

    Raises:
        ContractError: If no size can be used at all, if all have the same N, if ``num_params()`` is not a positive
            int, or if there is no loss.
    """
    probes: list[ModelProbe] = []
    rejected: list[Rejection] = []
    if measure:
        _ = task.tokens_per_sample  # Data that cannot be counted are no fault of a size.
    counted: dict[int, int] = {}
    for size in sorted(sizes):
        try:
            probes.append(_probe(task, size, measure, counted))
        except LossMissing:
            raise
        except ContractError as error:
            rejected.append(Rejection(size_param_value=size, reason=str(error)))
    if not probes:
        raise ContractError(
            f"no size of {task.model_cls_name} can be used: {rejected[0].reason.rstrip('.')}. Expected "
            f"model_cls(**{{{task.size_param!r}: n}}, **model_kwargs) to work for some of {len(sizes)} n from "
            f"{min(sizes)} to {max(sizes)}."
        )
    counts = {p.num_params for p in probes}
    if len(probes) > 1 and len(counts) == 1:
        raise ContractError(
            f"{task.size_param}: {task.model_cls_name} has {counts.pop()} parameters at all {len(probes)} values from "
            f"{min(sizes)} to {max(sizes)}, expected N to grow with it. Name the argument that sets the model's size."
        )
    return tuple(sorted(probes, key=lambda p: p.num_params)), tuple(rejected)


def _probe(task: Task, size: int, measure: bool, smaller: dict[int, int]) -> ModelProbe:
    """Counts one size; ``smaller`` holds the parameters of the sizes before it, and takes those of this one."""
    try:
        with torch.device("meta"):
            model = create_model(task, size)
    except ContractError as error:
        # Constructors that read tensor values cannot run on meta; a real instance can, if it is small.
        _check_memory(_expected_params(size, smaller), error)
        model = create_model(task, size)
    counted = smaller[size] = sum(p.numel() for p in model.parameters())
    num_params = _own_num_params(task, size, model, counted)
    flops: float | None = None
    causal: float | None = None
    if callable(getattr(model, "flops_per_token", None)):
        flops = _own_flops(task, size, model)
    elif measure and task.train_data is not None:
        count = _measure(task, size, task.train_data, counted)
        flops, causal = count.dense, None if count.method == "6N" else count.causal
    return ModelProbe(
        size_param_value=size,
        num_params=num_params,
        num_params_non_embedding=num_params - _embedding_params(model),
        flops_per_token=flops,
        flops_per_token_causal=causal,
    )


def _expected_params(size: int, smaller: dict[int, int]) -> float:
    """Extrapolates the parameters of a size from those below it; 0 where nothing is known."""
    if not smaller:
        return 0.0
    size_1, size_2 = min(smaller), max(smaller)
    count_1, count_2, growth = smaller[size_1], smaller[size_2], GROWTH
    if size_1 < size_2 and count_1 < count_2:
        growth = math.log(count_2 / count_1) / math.log(size_2 / size_1)
    return float(count_2 * (size / size_2) ** growth)


def _check_memory(num_params: float, reason: ContractError) -> None:
    if num_params > MAX_REAL_PARAMS:
        raise ContractError(
            f"the model cannot be built on the meta device ({str(reason).rstrip('.')}), and its about "
            f"{format_count(num_params)} parameters would take {4 * num_params / 1e9:.1f} GB to build only for "
            f"counting, above 1 GB. Let the constructor read no tensor values, or lower the largest size."
        ) from reason


def _own_num_params(task: Task, size: int, model: nn.Module, counted: int) -> int:
    own_count = getattr(model, "num_params", None)
    if not callable(own_count):
        return counted
    name = f"{task.model_cls_name}.num_params()"
    built = f"(the {task.size_param}={size} instance holds {counted} parameters)"
    try:
        value = own_count()
    except Exception as error:
        raise ContractError(f"{name} raised {type(error).__name__}: {error} {built}.") from error
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value <= 0:
        raise ContractError(f"{name} returned {value!r}, expected a positive int {built}.")
    return int(value)


def _own_flops(task: Task, size: int, model: Any) -> float:
    name = f"{task.model_cls_name}.flops_per_token()"
    try:
        value = float(model.flops_per_token())
    except Exception as error:
        raise ContractError(f"{name} raised {type(error).__name__} at {task.size_param}={size}: {error}.") from error
    if not (math.isfinite(value) and value > 0):
        raise ContractError(f"{name} returned {value!r} at {task.size_param}={size}, expected a positive number.")
    return value


def _measure(task: Task, size: int, data: SampleSource, num_params: int) -> FlopCount:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        value = compute_loss(task, model, batch)
        if not isinstance(value, torch.Tensor) or value.ndim != 0:
            got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise ContractError(
                f"the loss has {got}, expected a scalar tensor, the mean over the targets: use reduction='mean'"
            )
        return value

    try:
        count = 2 if data.num_samples is None or data.num_samples > 1 else 1
        batch = data.batch(np.arange(count, dtype=np.int64))
        return measure_flops_per_token(
            lambda: create_model(task, size), batch, count * task.tokens_per_sample, loss,
            may_compute=num_params <= MAX_REAL_PARAMS,
        )  # fmt: skip
    except FlopsFitError:
        raise
    except Exception as error:
        raise ContractError(
            f"{task.model_cls_name}({task.size_param}={size}) raised on samples of the data, "
            f"{type(error).__name__}: {error}"
        ) from error


def _embedding_params(model: nn.Module) -> int:
    tables = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)}
    heads = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    return sum(n for key, n in tables.items() if key not in heads)
