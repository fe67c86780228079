"""The contract of model, data and loss, and the checks of it."""

from flops_fit.tasks.loss import check_loss, compute_loss, count_targets, is_trainable
from flops_fit.tasks.probe import probe_sizes
from flops_fit.tasks.task import Task, create_model, make_task

__all__ = [
    "Task",
    "check_loss",
    "compute_loss",
    "count_targets",
    "create_model",
    "is_trainable",
    "make_task",
    "probe_sizes",
]
