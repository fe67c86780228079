"""Model sizes, each built without memory for its weights and counted: N and FLOPs per token."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from flops_fit.data.sources import SampleSource
from flops_fit.errors import ContractError, FlopsFitError
from flops_fit.flops import FlopCount, measure_flops_per_token
from flops_fit.records import ModelProbe, Rejection
from flops_fit.tasks.loss import compute_loss
from flops_fit.tasks.task import Task, create_model


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
        ContractError: If no size can be used at all, if all have the same N, or if ``num_params()`` is not a
            positive int.
    """
    probes: list[ModelProbe] = []
    rejected: list[Rejection] = []
    for size in sizes:
        try:
            probes.append(_probe(task, size, measure))
        except ContractError as error:
            rejected.append(Rejection(size_param_value=size, reason=str(error)))
    if not probes:
        raise ContractError(
            f"no size of {task.model_cls_name} can be used: {rejected[0].reason.rstrip('.')}. Expected "
            f"model_cls(**{{{task.size_param!r}: n}}, **model_kwargs) to work for some n in {list(sizes)}."
        )
    counts = {p.num_params for p in probes}
    if len(probes) > 1 and len(counts) == 1:
        raise ContractError(
            f"{task.size_param}: {task.model_cls_name} has {counts.pop()} parameters at all {len(probes)} values from "
            f"{min(sizes)} to {max(sizes)}, expected N to grow with it. Name the argument that sets the model's size."
        )
    return tuple(sorted(probes, key=lambda p: p.num_params)), tuple(rejected)


def _probe(task: Task, size: int, measure: bool) -> ModelProbe:
    try:
        with torch.device("meta"):
            model = create_model(task, size)
    except ContractError:
        # Constructors that read tensor values cannot run on meta; a real instance can, if it is small.
        model = create_model(task, size)
    counted = sum(p.numel() for p in model.parameters())
    num_params = counted
    own_count = getattr(model, "num_params", None)
    if callable(own_count):
        num_params = own_count()
        if not isinstance(num_params, int) or num_params <= 0:
            raise ContractError(
                f"{task.model_cls_name}.num_params() returned {num_params!r}, expected a positive int "
                f"(the {task.size_param}={size} instance holds {counted} parameters)."
            )
    flops: float | None = None
    causal: float | None = None
    own_flops = getattr(model, "flops_per_token", None)
    if callable(own_flops):
        flops = float(own_flops())
    elif measure and task.train_data is not None:
        count = _measure(task, size, task.train_data)
        flops, causal = count.dense, None if count.method == "6N" else count.causal
    return ModelProbe(
        size_param_value=size,
        num_params=num_params,
        num_params_non_embedding=num_params - _embedding_params(model),
        flops_per_token=flops,
        flops_per_token_causal=causal,
    )


def _measure(task: Task, size: int, data: SampleSource) -> FlopCount:
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
        return measure_flops_per_token(lambda: create_model(task, size), batch, count * data.tokens_per_sample, loss)
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
