"""What is to be scaled: a model class with one size parameter, data, and a loss.

The contract is duck-typed and checked here, once, before any compute is spent:
``model_cls(**{size_param: n}, **model_kwargs)`` returns an ``nn.Module``. Its ``num_params()`` and
``flops_per_token()`` are used where it has them. Batches are ``(inputs, targets)``, then the loss is
``loss_fn(model(inputs), targets)``; or mappings, then it is ``loss_fn(model(**batch), batch)``, or the
output's own ``.loss`` where no loss_fn is given.
"""

import hashlib
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from flops_fit.data.sources import SampleSource
from flops_fit.errors import ContractError, FlopsFitError
from flops_fit.flops import measure_flops_per_token
from flops_fit.records import ModelProbe, Rejection
from flops_fit.schema import canonical_json

IGNORE_INDEX = -100


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


def compute_loss(task: Task, model: nn.Module, batch: Any) -> torch.Tensor:
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
            raise ContractError(
                f"the output of {task.model_cls_name} has no .loss and no loss_fn was given. "
                "Pass loss_fn(outputs, batch), or put labels into the batch."
            )
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


def count_targets(batch: Any) -> int:
    """Counts what a batch's mean loss is a mean over: integer targets that are not -100, else samples."""
    if isinstance(batch, Mapping):
        targets = batch.get("labels")
        if targets is None:
            targets = next(iter(batch.values()))
        elif targets.ndim > 1:
            targets = targets[:, 1:]  # Causal Hugging Face models shift the labels themselves.
    else:
        targets = batch[1]
    if not isinstance(targets, torch.Tensor):
        return len(targets)
    if targets.is_floating_point():
        return int(targets.shape[0])
    return int((targets != IGNORE_INDEX).sum())


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
    own_flops = getattr(model, "flops_per_token", None)
    if callable(own_flops):
        flops = float(own_flops())
    elif measure and task.train_data is not None:
        flops = _measure(task, size, task.train_data)
    return ModelProbe(
        size_param_value=size,
        num_params=num_params,
        num_params_non_embedding=num_params - _embedding_params(model),
        flops_per_token=flops,
    )


def _measure(task: Task, size: int, data: SampleSource) -> float:
    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        value = compute_loss(task, model, batch)
        if not isinstance(value, torch.Tensor) or value.ndim != 0:
            got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise ContractError(
                f"the loss has {got}, expected a scalar tensor, the mean over the targets: use reduction='mean'"
            )
        return value

    try:
        return measure_flops_per_token(lambda: create_model(task, size), data, loss).dense
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
