"""What is to be scaled: a model class with one size parameter, data, and a loss.

The contract is duck-typed and checked once, before any compute is spent:
``model_cls(**{size_param: n}, **model_kwargs)`` returns an ``nn.Module``. Its ``num_params()`` and
``flops_per_token()`` are used where it has them. Batches are ``(inputs, targets)``, then the loss is
``loss_fn(model(inputs), targets)``; or mappings, then it is ``loss_fn(model(**batch), batch)``, or the
output's own ``.loss`` where no loss_fn is given.
"""

import hashlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from flops_fit.data.sources import SampleSource
from flops_fit.errors import ContractError, FlopsFitError
from flops_fit.schema import canonical_json
from flops_fit.tasks.loss import check_loss


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A model family, its data and its loss."""

    model_cls: Callable[..., nn.Module]
    size_param: str
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    train_data: SampleSource | None = None
    eval_data: SampleSource | None = None
    loss_fn: Callable[[Any, Any], torch.Tensor] | None = None
    name: str = ""
    data_unit: str = "tokens"

    @property
    def model_cls_name(self) -> str:
        """A name for messages, also for partials and factories."""
        return _name_of(self.model_cls)

    @property
    def unique_tokens(self) -> int | None:
        """Distinct training tokens there are; None without data, or for a stream."""
        data = self.train_data
        return None if data is None or data.num_samples is None else data.num_samples * data.tokens_per_sample

    @property
    def fingerprint(self) -> str:
        """Identifies model code, settings, data and loss: what makes runs comparable."""
        parts = {
            "model": _source_of(self.model_cls),
            "size_param": self.size_param,
            "model_kwargs": {k: repr(v) for k, v in self.model_kwargs.items()},
            "loss": None if self.loss_fn is None else _source_of(self.loss_fn),
            "train": None if self.train_data is None else self.train_data.fingerprint,
            "eval": None if self.eval_data is None else self.eval_data.fingerprint,
        }
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:16]


def make_task(
    model_cls: Callable[..., nn.Module],
    size_param: str,
    model_kwargs: Mapping[str, Any] | None = None,
    **parts: Any,
) -> Task:
    """Builds a task after checking model and loss; ``parts`` are the other fields of `Task`.

    Raises:
        ContractError: If the model class or the loss cannot be used.
    """
    if not callable(model_cls):
        raise ContractError(
            f"model_cls: got {type(model_cls).__name__}, expected a class or a factory that returns an nn.Module."
        )
    kwargs = dict(model_kwargs or {})
    if size_param in kwargs:
        warnings.warn(
            f"model_kwargs holds the size parameter {size_param!r}={kwargs[size_param]!r}; "
            "it is dropped, because the sweep sets it.",
            UserWarning,
            stacklevel=3,
        )
        del kwargs[size_param]
    if parts.get("loss_fn") is not None:
        check_loss(parts["loss_fn"])
    task = Task(model_cls=model_cls, size_param=size_param, model_kwargs=kwargs, **parts)
    return task if task.name else Task(**{**task.__dict__, "name": task.model_cls_name})


def create_model(task: Task, size: int) -> nn.Module:
    """Builds the model of one size on the current default device.

    Raises:
        ContractError: If the constructor raises or returns something else than an nn.Module.
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
    return model


def _name_of(thing: Any) -> str:
    thing = getattr(thing, "func", thing)  # functools.partial
    return getattr(thing, "__name__", type(thing).__name__)


def _source_of(thing: Any) -> str:
    arguments = repr((getattr(thing, "args", ()), getattr(thing, "keywords", {}))) if hasattr(thing, "func") else ""
    thing = getattr(thing, "func", thing)
    target = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    try:
        return inspect.getsource(target) + arguments
    except (OSError, TypeError):
        return f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', repr(target))}{arguments}"
