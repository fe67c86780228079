"""The contract of model, data and loss, and the checks of it."""

from flops_fit.tasks.criterion import count_targets
from flops_fit.tasks.kwargs import plain_kwargs
from flops_fit.tasks.loss import check_loss, compute_loss, is_trainable
from flops_fit.tasks.model import create_model
from flops_fit.tasks.probe import probe_sizes
from flops_fit.tasks.task import Task, make_task

__all__ = [
    "Task",
    "check_loss",
    "compute_loss",
    "count_targets",
    "create_model",
    "is_trainable",
    "make_task",
    "plain_kwargs",
    "probe_sizes",
]
