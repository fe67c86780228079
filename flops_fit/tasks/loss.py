"""The loss of a batch: how it is computed, and whether a loss_fn can be called."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from flops_fit.errors import ContractError

if TYPE_CHECKING:
    from flops_fit.tasks.task import Task


class LossMissing(ContractError):
    """Neither the model's output nor the user has a loss, at whatever size."""


def compute_loss(task: "Task", model: nn.Module, batch: Any) -> torch.Tensor:
    """Runs the forward pass and returns the mean loss over the batch's targets, a scalar tensor.

    Raises:
        ContractError: If the batch is neither a pair nor a mapping, or no loss can be found.
    """
    if isinstance(batch, Mapping):
        outputs = model(**batch)
        if task.loss_fn is not None:
            return task.loss_fn(outputs, batch)
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        if loss is None:
            raise LossMissing(_loss_advice(task, batch))
        return loss  # type: ignore[no-any-return]
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        if task.loss_fn is None:
            raise ContractError(
                "batches are (inputs, targets) and no loss_fn was given: pass loss_fn(outputs, targets)."
            )
        inputs, targets = batch
        return task.loss_fn(model(inputs), targets)
    raise ContractError(
        f"got a batch of type {type(batch).__name__}, expected (inputs, targets) or a mapping. "
        "For a Hugging Face data set use .with_format('torch')."
    )


def _loss_advice(task: "Task", batch: Mapping[str, Any]) -> str:
    missing = f"the output of {task.model_cls_name} has no .loss and no loss_fn was given"
    if "labels" in batch or "input_ids" not in batch:
        return f"{missing}. Pass loss_fn(outputs, batch), or put labels into the batch."
    return (
        f"{missing}. A Hugging Face model has one where the batch has labels; this one has the columns {list(batch)}. "
        "Put labels into the batch: dataset = dataset.map(lambda row: {'labels': row['input_ids']}) for a causal "
        "model, which shifts them itself (-100 where there is padding), or pass loss_fn(outputs, batch)."
    )


def is_trainable(task: "Task") -> bool:
    """Whether the task can be trained: it has data, and a loss_fn or batches whose model returns its own loss."""
    if task.train_data is None or task.loss_fn is not None:
        return task.train_data is not None
    try:
        return isinstance(task.train_data.batch(np.array([0])), Mapping)
    except ContractError:
        return False


def check_loss(loss_fn: Any) -> None:
    """Checks that the loss can be called as ``loss_fn(outputs, targets)``.

    Raises:
        ContractError: If it is a class, not callable, or takes fewer than two positional arguments.
    """
    if inspect.isclass(loss_fn):
        raise ContractError(f"loss_fn: got the class {loss_fn.__name__}, expected an instance: {loss_fn.__name__}().")
    if not callable(loss_fn):
        raise ContractError(f"loss_fn: got {type(loss_fn).__name__}, expected a callable loss_fn(outputs, targets).")
    target = loss_fn.forward if isinstance(loss_fn, nn.Module) else loss_fn
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return  # C callables have no signature; the first batch will tell.
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise ContractError(
            f"loss_fn{signature}: expected two positional arguments (outputs, targets); {error}."
        ) from error
