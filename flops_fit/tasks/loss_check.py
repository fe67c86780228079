"""The check of the loss: is it the mean that training takes it for? Asked once, before any run is trained.

Gradients and held-out losses of parts of a batch are weighted by `count_targets`. A loss that sums, or that is a mean
over something else, would change with the size of a micro-batch: plausible numbers, and a wrong law.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from flops_fit.data.samples import StreamSource
from flops_fit.data.sources import SampleSource
from flops_fit.data.targets import is_integer, targets_of
from flops_fit.errors import ContractError
from flops_fit.tasks.criterion import count_targets
from flops_fit.tasks.loss import compute_loss
from flops_fit.tasks.model import create_model
from flops_fit.tasks.task import Task

MAX_PARAMS = 100_000_000
"""Larger models are not built for this."""
MAX_SAMPLES = 32
MIN_SAMPLES = 4
MAX_FLOPS = 1e12
"""Of the check, some seconds on a CPU; large models are asked about fewer samples."""
TOLERANCE = 1e-4
NOISE = 0.5
PAIRS = 4
SAME = 1e-3

logger = logging.getLogger(__name__)


def check_loss_is_mean(task: Task, size: int, num_params: int) -> None:
    """Compares the loss of a batch of samples with those of its parts.

    Args:
        task: Model, data and loss; nothing is checked without data, or where samples cannot be asked for again.
        size: Value of the size parameter of the model to ask, the smaller the cheaper.
        num_params: N of that model.

    Raises:
        ContractError: If the loss is a sum, or a mean over something else than `count_targets` counts, or if a
            target or an index is out of the model's range.
    """
    data = task.train_data
    if data is None or num_params > MAX_PARAMS:
        return
    classes = None
    try:
        # Some seven passes over the batch, 2 FLOPs per parameter and token.
        affordable = MAX_FLOPS / (14 * num_params * task.tokens_per_sample)
        batch = _two_parts(task, data, int(min(max(affordable, MIN_SAMPLES), MAX_SAMPLES)))
        if batch is None:
            return
        classes = _Classes(batch)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), classes:
            model = create_model(task, size).eval()
            losses = _Losses(task, model, batch)
            rows = list(range(_num_rows(batch)))
            losses.of(rows)
            _check_range(task, classes.number)
            _spread_outputs(model, losses)
            half = len(rows) // 2
            # Halves of many samples can be even by chance; single samples are not all.
            pairs = [([i], [len(rows) - 1 - i]) for i in range(min(half, PAIRS))]
            _compare(task, losses, [(rows[:half], rows[half:]), *pairs])
    except ContractError:
        raise
    except IndexError as error:
        _check_range(task, None if classes is None else classes.number)
        raise ContractError(
            f"{task.model_cls_name}({task.size_param}={size}) raised on samples of the data: IndexError: {error}. "
            "Expected token ids and targets from 0 to the number of embeddings or outputs less one."
        ) from error
    except Exception as error:
        # Whatever it is, the run that meets it records it with its traceback.
        logger.info("the loss could not be checked on samples: %s: %s", type(error).__name__, error)


class _Losses:
    """Losses of rows of one batch."""

    def __init__(self, task: Task, model: nn.Module, batch: Any) -> None:
        self.task, self.model, self.batch = task, model, batch
        types = [p.dtype for p in model.parameters() if p.is_floating_point()]
        self.rounding = max((8 * torch.finfo(t).eps for t in types), default=0.0)

    def are_close(self, x: float, y: float) -> bool:
        return math.isclose(x, y, rel_tol=max(TOLERANCE, self.rounding), abs_tol=1e-7)

    def of(self, rows: Sequence[int]) -> float:
        return float(compute_loss(self.task, self.model, _rows(self.batch, rows)))

    def weight(self, rows: Sequence[int]) -> float:
        return count_targets(self.task, _rows(self.batch, rows))


def _spread_outputs(model: nn.Module, losses: _Losses) -> None:
    """Adds noise to the weights: at its start a model can give each target the same loss, and all means are equal."""
    state = {name: p.clone() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=NOISE)
    rows = range(_num_rows(losses.batch))
    if not math.isfinite(losses.of(rows)):
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])


def _compare(task: Task, losses: _Losses, splits: Sequence[tuple[list[int], list[int]]]) -> None:
    found = [disagreement for split in splits if (disagreement := _disagreement(losses, *split)) is not None]
    if not found:
        return
    weighed, parts = found[0]
    if all(how is not None for how, _ in found) and _are_weights_of_samples(losses):
        raise ContractError(
            f"loss_fn: {parts}. It is a mean, but not over the targets that count here: {weighed}. It would "
            f"change with the size of a micro-batch. Mark targets that do not count with "
            f"{task.criterion.ignore_index}, and give ignored or weighted classes where they can be read: "
            "nn.CrossEntropyLoss(ignore_index=..., weight=...). Of a Hugging Face model that does not shift its "
            "labels, mark the first label too."
        )
    logger.warning(
        "%s, not their mean: samples of a batch share in the loss (contrastive, or a balance over the batch). It "
        "depends on the micro-batch and on the number of processes; set train.micro_batch_samples.",
        parts,
    )


def _disagreement(losses: _Losses, first: list[int], second: list[int]) -> tuple[str | None, str] | None:
    """Says how two parts are weighed, None where their loss is no mean at all, and their losses; None if all is well.

    Raises:
        ContractError: If the loss is a sum.
    """
    a, b, both = losses.of(first), losses.of(second), losses.of(first + second)
    weight_a, weight_b = losses.weight(first), losses.weight(second)
    if losses.are_close(both, (weight_a * a + weight_b * b) / (weight_a + weight_b)):
        return None
    parts = f"the loss of {len(first + second)} samples is {both:.6g} and of its two parts {a:.6g} and {b:.6g}"
    if losses.are_close(both, a + b) and abs(both) > (1 + TOLERANCE) * max(abs(a), abs(b)):
        raise ContractError(
            f"loss_fn: {parts}. It is the sum of theirs, expected the mean over the targets of a batch. "
            "Use reduction='mean', or divide by the number of targets."
        )
    if math.isfinite(both) and not (math.isfinite(a) and math.isfinite(b)):
        return "one part holds none that the loss counts", parts
    ratio = _ratio(a, b, both)
    # A mean weighs its parts by this ratio however often they occur; what couples samples does not, to such digits.
    expected = (2 * a + ratio * b) / (2 + ratio) if ratio > 0 else math.nan
    off = abs(losses.of(first + first + second) - expected)
    if not off <= SAME * abs(a - b) + losses.rounding * abs(both):
        return None, parts
    return f"it weighs the parts 1 : {ratio:.4g}, their targets 1 : {weight_b / weight_a:.4g}", parts


def _are_weights_of_samples(losses: _Losses) -> bool:
    """Whether samples have weights, so that of three each pair's ratio follows from those of the other two.

    What couples samples slightly looks like a mean of other weights in one pair, however often each part occurs.
    """
    last = _num_rows(losses.batch) - 1
    for i, j, k in ((0, last, 1), (1, last - 1, 0), (0, last, last - 1)):
        rows = ([i], [j]), ([j], [k]), ([i], [k])
        ratios = [_ratio(losses.of(first), losses.of(second), losses.of(first + second)) for first, second in rows]
        if len({i, j, k}) == 3 and min(ratios) > 0:
            gaps = [abs(losses.of(first) - losses.of(second)) for first, second in rows]
            doubt = SAME + 8 * losses.rounding * abs(losses.of([i])) / min(gaps)
            if abs(math.log(ratios[0] * ratios[1] / ratios[2])) > doubt:
                return False
    return True


def _ratio(a: float, b: float, both: float) -> float:
    """Weight of the second part of a mean over that of the first; -1 where it is none."""
    return (a - both) / (both - b) if both != b else -1.0


def _two_parts(task: Task, data: SampleSource, size: int) -> Any:
    """A batch of which the first half has the fewest targets; None where samples cannot be asked for or told apart."""
    if data.num_samples is None:
        if not isinstance(data, StreamSource):
            return None
        ids = np.arange(len(data.first(MAX_SAMPLES)))
    else:
        ids = np.unique(np.linspace(0, data.num_samples - 1, MAX_SAMPLES).astype(np.int64))
    batch = data.batch(ids)
    if len(ids) < 2 or _num_rows(batch) != len(ids):
        return None
    counts = np.array([count_targets(task, _rows(batch, [i])) for i in range(len(ids))])
    order = [int(i) for i in np.argsort(counts, kind="stable") if counts[i] > 0]
    half = min(size, len(order)) // 2
    return None if half == 0 else _rows(batch, order[:half] + order[-half:])


def _num_rows(batch: Any) -> int:
    """Samples in a batch of tensors; 0 where they disagree."""
    lengths = {len(x) if isinstance(x, torch.Tensor) and x.ndim else 0 for x in tree_leaves(batch)}
    return lengths.pop() if len(lengths) == 1 else 0


def _rows(batch: Any, rows: Sequence[int]) -> Any:
    return tree_map(lambda x: x[list(rows)], batch)


class _Classes(TorchFunctionMode):
    """Notes how many classes the outputs have, where the targets of the data are compared with them as they are."""

    def __init__(self, batch: Any) -> None:
        super().__init__()
        self.number: int | None = None
        self._values = targets_of(batch)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (F.cross_entropy, F.nll_loss):
            outputs, targets = (*args, *(kwargs[k] for k in ("input", "target")[len(args) :]))[:2]
            if is_integer(targets) and is_integer(self._values) and bool(torch.isin(targets, self._values).all()):
                self.number = outputs.shape[1] if outputs.ndim > 1 else outputs.shape[0]
        return func(*args, **kwargs)


def _check_range(task: Task, classes: int | None) -> None:
    found = task.target_counts
    if classes is None or found is None or found.lowest is None or found.highest is None:
        return
    if found.lowest < 0 or found.highest >= classes:
        raise ContractError(
            f"dataset: targets go from {found.lowest} to {found.highest}, and {task.model_cls_name} has {classes} "
            f"outputs; expected targets from 0 to {classes - 1}. Give the model more outputs, or number the classes "
            f"from 0 and mark what does not count with {task.criterion.ignore_index}."
        )
