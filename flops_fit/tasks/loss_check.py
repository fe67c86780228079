"""Is the loss the mean that the engine takes it for? Asked once, on two samples, before any run is trained.

Gradients and held-out losses are weighted by the number of targets, so a sum over the batch would give losses that
change with the batch size: plausible numbers, and a wrong law.
"""

import logging
import math

import numpy as np
import torch

from flops_fit.errors import ContractError
from flops_fit.tasks.loss import compute_loss
from flops_fit.tasks.task import Task, create_model

MAX_PARAMS = 100_000_000
"""Larger models are not built for this."""
TOLERANCE = 1e-4

logger = logging.getLogger(__name__)


def check_loss_is_mean(task: Task, size: int, num_params: int) -> None:
    """Compares the loss of two samples with the losses of each.

    Args:
        task: Model, data and loss; nothing is checked without a loss_fn, or where samples cannot be asked for again.
        size: Value of the size parameter of the model to ask, the smaller the cheaper.
        num_params: N of that model.

    Raises:
        ContractError: If the loss of both is the sum of the two.
    """
    data = task.train_data
    if task.loss_fn is None or data is None or (data.num_samples or 0) < 2 or num_params > MAX_PARAMS:
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model = create_model(task, size).eval()
            first, second, both = (
                float(compute_loss(task, model, data.batch(np.array(ids, dtype=np.int64))))
                for ids in ([0], [1], [0, 1])
            )
    except Exception as error:
        # Whatever it is, the run that meets it records it with its traceback.
        logger.info("the loss could not be checked on two samples: %s: %s", type(error).__name__, error)
        return
    larger = max(abs(first), abs(second))
    if larger > 0 and math.isclose(both, first + second, rel_tol=TOLERANCE) and abs(both) > (1 + TOLERANCE) * larger:
        raise ContractError(
            f"loss_fn: the loss of two samples, {both:.6g}, is the sum of theirs, {first:.6g} and {second:.6g}; "
            "expected the mean over the targets of a batch. Use reduction='mean', or divide by the number of targets."
        )
