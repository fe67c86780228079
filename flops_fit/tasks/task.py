"""What is to be scaled: a model class with one size parameter, data, and a loss.

The contract is duck-typed and checked once, before any compute is spent:
``model_cls(**{size_param: n}, **model_kwargs)`` returns an ``nn.Module``. Its ``num_params()`` and
``flops_per_token()`` are used where it has them. Batches are ``(inputs, targets)``, then the loss is
``loss_fn(model(inputs), targets)``; or mappings, then it is ``loss_fn(model(**batch), batch)``, or the
output's own ``.loss`` where no loss_fn is given. A data set's ``data_unit``, such as "images", names what D counts.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from flops_fit.data.samples import MapSource, StreamSource, unwrapped
from flops_fit.data.sources import SampleSource
from flops_fit.data.targets import TargetCounts, check_targets, measure_targets
from flops_fit.errors import ContractError
from flops_fit.tasks.criterion import Criterion, criterion_of
from flops_fit.tasks.fingerprint import computation_of, fingerprint_of
from flops_fit.tasks.loss import check_loss
from flops_fit.tasks.model import check_model_cls


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
    stated_unit: str | None = None
    """What D counts, where the data do not state it."""
    stated_fingerprint: str | None = None
    """What the user says identifies this work; None: its code and data do."""

    @property
    def model_cls_name(self) -> str:
        """A name for messages, also for partials and factories."""
        return _name_of(self.model_cls)

    @property
    def data_unit(self) -> str:
        """What D counts: as stated here or by the data set, else tokens, or samples where one sample is one target."""
        stated = self.stated_unit or _unit_of(self.train_data)
        is_sample = self.train_data is not None and self.tokens_per_sample == 1
        return stated or ("samples" if is_sample else "tokens")

    @cached_property
    def criterion(self) -> Criterion:
        """Which targets the loss counts."""
        return criterion_of(self.loss_fn)

    @cached_property
    def target_counts(self) -> TargetCounts | None:
        """Targets of the training data, as the loss counts them; None without data, or of a source that states them.

        Raises:
            ContractError: If tokens or FLOPs of the data cannot be counted.
        """
        data = self.train_data
        if data is None or not isinstance(unwrapped(data), (MapSource, StreamSource)):
            return None
        found = measure_targets(data, self.criterion.ignore_index)
        check_targets(found, self.criterion.ignore_index)
        return found

    @property
    def tokens_per_sample(self) -> int:
        """Targets that count in a sample of the training data, on average: D is this times the samples trained on.

        Where a causal Hugging Face model shifts the labels itself, the first one counts too, as is usual.
        """
        if self.target_counts is not None:
            return self.target_counts.tokens_per_sample
        return 1 if self.train_data is None else self.train_data.tokens_per_sample

    @property
    def unique_tokens(self) -> int | None:
        """Distinct training tokens there are; None without data, or for a stream."""
        data = self.train_data
        return None if data is None or data.num_samples is None else data.num_samples * self.tokens_per_sample

    @cached_property
    def computation(self) -> str:
        """Identifies model code, arguments and loss (`tasks.fingerprint`)."""
        return computation_of(self)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the work: runs of different fingerprints are never mixed (`tasks.fingerprint`)."""
        return self.stated_fingerprint or fingerprint_of(self)


def make_task(
    model_cls: Callable[..., nn.Module],
    size_param: str,
    model_kwargs: Mapping[str, Any] | None = None,
    *,
    fingerprint: str | None = None,
    **parts: Any,
) -> Task:
    """Builds a task after checking model and loss; what its data hold is counted when it is planned.

    Args:
        model_cls: A class or a factory.
        size_param: Name of the argument that sets the size.
        model_kwargs: Its other arguments.
        fingerprint: States what identifies this work, such as "my-data-v3", in place of its code and data. Change it
            whenever model, loss or data change: results of equal fingerprints are fitted together.
        **parts: The other fields of `Task`.

    Raises:
        ContractError: If the model class or the loss cannot be used.
    """
    check_model_cls(model_cls, size_param)
    if fingerprint is not None and (not isinstance(fingerprint, str) or not fingerprint.strip()):
        raise ContractError(f"fingerprint: got {fingerprint!r}, expected a text such as 'my-data-v3', or None.")
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
    parts["name"] = parts.get("name") or _name_of(model_cls)
    task = Task(
        model_cls=model_cls, size_param=size_param, model_kwargs=kwargs, stated_fingerprint=fingerprint, **parts
    )
    if fingerprint is None:
        _ = task.computation  # Before anything runs: code may keep results of calls.
    return task


def _unit_of(source: SampleSource | None) -> str | None:
    """The ``data_unit`` of a user's data set, such as "images"; None where it has none."""
    dataset = None if source is None else getattr(unwrapped(source), "dataset", None)
    unit: str | None = getattr(dataset, "data_unit", None)
    return unit


def _name_of(thing: Any) -> str:
    thing = getattr(thing, "func", thing)  # functools.partial
    return getattr(thing, "__name__", type(thing).__name__)
