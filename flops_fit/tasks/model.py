"""Models of one size: built, their lazy layers given shapes, and what training cannot take refused."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map

from flops_fit.errors import ContractError, FlopsFitError
from flops_fit.tasks.hugging_face import advice_for

if TYPE_CHECKING:
    from flops_fit.tasks.task import Task


def check_model_cls(model_cls: Any, size_param: str) -> None:
    """Refuses what cannot build models of several sizes.

    Raises:
        ContractError: If it is a model, not callable, or a Hugging Face class, which takes a configuration.
    """
    if (advice := advice_for(model_cls, size_param)) is not None:
        raise ContractError(f"model_cls: {advice}.")
    if isinstance(model_cls, nn.Module):
        name = type(model_cls).__name__
        raise ContractError(
            f"model_cls: got an instance of {name}, expected the class or a factory, so that models of several sizes "
            f"can be built: model_cls={name}."
        )
    if not callable(model_cls):
        raise ContractError(
            f"model_cls: got {type(model_cls).__name__}, expected a class or a factory that returns an nn.Module."
        )


def create_model(task: "Task", size: int) -> nn.Module:
    """Builds the model of one size on the current default device.

    Lazy layers get their shapes from a forward pass over one sample.

    Raises:
        ContractError: If the constructor raises or returns something else than an nn.Module, or if the model cannot
            be trained here.
    """
    try:
        model = task.model_cls(**{task.size_param: size}, **task.model_kwargs)
    except FlopsFitError:
        raise
    except Exception as error:
        raise ContractError(
            f"{task.model_cls_name}({task.size_param}={size}) raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ContractError(
            f"{task.model_cls_name}({task.size_param}={size}) returned {type(model).__name__}, "
            "expected a torch.nn.Module."
        )
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse:
            raise ContractError(
                f"{task.model_cls_name}.{name} is an embedding with sparse=True, whose sparse gradients AdamW and "
                "gradient clipping do not take. Build it with sparse=False."
            )
    if any(map(is_lazy, [*model.parameters(), *model.buffers()])):
        _give_shapes(task, model)
    return model


def _give_shapes(task: "Task", model: nn.Module) -> None:
    if task.train_data is None:
        raise ContractError(
            f"{task.model_cls_name} has lazy layers, whose shapes only data can tell. Give a dataset, or name the "
            "shapes (nn.Linear for nn.LazyLinear)."
        )
    lazy = next(p for p in [*model.parameters(), *model.buffers()] if is_lazy(p))
    batch = task.train_data.batch(np.zeros(1, dtype=np.int64))
    batch = tree_map(lambda x: x.to(lazy.device) if isinstance(x, torch.Tensor) else x, batch)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(**batch) if isinstance(batch, Mapping) else model(batch[0])
    except Exception as error:
        raise ContractError(
            f"the lazy layers of {task.model_cls_name} could not take their shapes from a sample of the data: "
            f"{type(error).__name__}: {error}"
        ) from error
    model.train(was_training)
