"""What a loss is a mean over: read off the cross entropy it uses, and counted in a batch."""

import ast
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from flops_fit.data.targets import IGNORE_INDEX, is_integer, targets_of
from flops_fit.tasks.source_code import names_read, tree_of

if TYPE_CHECKING:
    from flops_fit.tasks.task import Task

FUNCTIONS = (F.cross_entropy, F.nll_loss)
CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)
UNSHIFTED = ("MaskedLM", "TokenClassification", "ConditionalGeneration", "Seq2SeqLM")


@dataclass(frozen=True, kw_only=True, eq=False)
class Criterion:
    """Which targets count, and how much: the denominator of a mean loss."""

    ignore_index: int = IGNORE_INDEX
    weight: torch.Tensor | None = None
    """Of each class."""


def criterion_of(loss_fn: Callable[..., Any] | None) -> Criterion:
    """Finds the one cross entropy that a loss uses, in its modules, arguments, closure or globals; else the default.

    What cannot be read here (a mean over something else) is found by `loss_check`, and refused.
    """
    if loss_fn is None:
        return Criterion()
    found = list(_criteria_in(loss_fn))
    alike = {(c.ignore_index, None if c.weight is None else c.weight.data_ptr()) for c in found}
    return found[0] if len(alike) == 1 else Criterion()


def count_targets(task: "Task", batch: Any) -> float:
    """Counts what a batch's mean loss is a mean over, so that the losses of its parts can be averaged.

    Integer targets count one by one, except those that the loss ignores, or by the weights of their classes; of
    other targets the samples count.
    """
    criterion, targets = task.criterion, targets_of(batch)
    if not isinstance(targets, torch.Tensor):
        return len(targets)
    if not is_integer(targets):
        return int(targets.shape[0])
    if isinstance(batch, Mapping) and _is_shifted(task, batch, targets):
        targets = targets[:, 1:]
    counted = targets != criterion.ignore_index
    if criterion.weight is None:
        return int(counted.sum())
    return float(criterion.weight[targets[counted].cpu()].double().sum())


def _is_shifted(task: "Task", batch: Mapping[str, Any], targets: torch.Tensor) -> bool:
    """Whether the model shifts the labels itself, so that the first is no target: causal Hugging Face models do."""
    inputs = batch.get("input_ids")
    is_sequence = isinstance(inputs, torch.Tensor) and inputs.shape == targets.shape and targets.ndim == 2
    return is_sequence and "decoder_input_ids" not in batch and not _names_unshifted(task.model_cls)


@functools.cache
def _names_unshifted(model_cls: Any) -> bool:
    """Whether a class or a factory is, or mentions, a Hugging Face model whose labels stand where they are."""
    model_cls = getattr(model_cls, "func", model_cls)
    names = {base.__name__ for base in getattr(model_cls, "__mro__", ())}
    if inspect.isfunction(model_cls):
        used, attributes, imports = names_read(model_cls.__code__)
        names |= used | attributes | set(model_cls.__code__.co_freevars) | {n for i in imports for n in i[2]}
    return any(kind in name for name in names for kind in UNSHIFTED)


def _criteria_in(loss: Any) -> Iterator[Criterion]:
    if isinstance(loss, CLASSES):
        weight = None if loss.weight is None else loss.weight.detach().cpu()
        yield Criterion(ignore_index=loss.ignore_index, weight=weight)
    elif isinstance(loss, nn.Module):
        for child in loss.children():
            yield from _criteria_in(child)
        yield from _criteria_in_code(type(loss).forward, {"self": loss})
    elif isinstance(loss, functools.partial):
        if _is_cross_entropy(loss.func):
            yield _from_arguments(loss.keywords)
        else:
            yield from _criteria_in(loss.func)
    elif inspect.ismethod(loss):
        yield from _criteria_in_code(loss.__func__, {"self": loss.__self__})
    elif _is_cross_entropy(loss):
        yield Criterion()
    elif inspect.isfunction(loss):
        yield from _criteria_in_code(loss, {})
    else:
        yield from _criteria_in_code(type(loss).__call__, {"self": loss})


def _criteria_in_code(function: Any, names: dict[str, Any]) -> Iterator[Criterion]:
    """Looks for criteria among the values that a function uses, and for calls of F.cross_entropy in its source."""
    if not inspect.isfunction(function):
        return
    known = function.__globals__
    scope = {n: known[n] for n in names_read(function.__code__)[0] if n in known}
    scope |= _closure(function) | _defaults(function) | names
    owner = names.get("self")
    own = [] if isinstance(owner, nn.Module) else getattr(owner, "__dict__", {}).values()
    for value in [*scope.values(), *own]:
        if isinstance(value, CLASSES) or (isinstance(value, functools.partial) and _is_cross_entropy(value.func)):
            yield from _criteria_in(value)
    for node in ast.walk(tree_of(function) or ast.Module(body=[], type_ignores=[])):
        if isinstance(node, ast.Call) and _is_cross_entropy(_resolved(node.func, scope)):
            keywords = {k.arg: k.value for k in node.keywords if k.arg in ("ignore_index", "weight")}
            if len(node.args) > 2:
                keywords["weight"] = node.args[2]
            yield _from_arguments({name: _resolved(value, scope) for name, value in keywords.items()})


def _resolved(node: ast.expr, scope: Mapping[str, Any]) -> Any:
    """The value of a constant, a name or an attribute; None where it is known only when the function runs."""
    if isinstance(node, ast.Name):
        return scope.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_resolved(node.value, scope), node.attr, None)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _is_cross_entropy(function: Any) -> bool:
    return any(function is f for f in FUNCTIONS)


def _from_arguments(keywords: Mapping[str, Any]) -> Criterion:
    ignore_index, weight = keywords.get("ignore_index"), keywords.get("weight")
    return Criterion(
        ignore_index=ignore_index if isinstance(ignore_index, int) else IGNORE_INDEX,
        weight=weight.detach().cpu() if isinstance(weight, torch.Tensor) else None,
    )


def _closure(function: Any) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # An empty cell.
            found[name] = cell.cell_contents
    return found


def _defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}
