"""Number of worker processes for a sweep."""

from collections.abc import Sequence
from pathlib import Path

import torch

from flops_fit.announced import announced_processes
from flops_fit.claims.time_left import rough_seconds
from flops_fit.errors import LaunchError
from flops_fit.memory import free_host_bytes
from flops_fit.recipes.trunks import group_by_trunk
from flops_fit.records import Experiment
from flops_fit.training.experiment import MIN_PARAMS_FOR_THREADS
from flops_fit.training.settings import TrainSettings

# A worker needs about four seconds to import torch and load the task; it should train for longer than that.
SECONDS_PER_WORKER = 10.0
# A worker with the built-in task takes a third of this.
BYTES_PER_WORKER = 1e9
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def worker_count(settings: TrainSettings, experiments: Sequence[Experiment]) -> int:
    """Returns how many workers to start; 1 trains in this process, without workers.

    Raises:
        LaunchError: If several are requested and a launcher has already started several processes.
    """
    launched = announced_processes()
    if launched > 1:
        if settings.workers not in ("auto", 1):
            raise LaunchError(
                f"train.workers={settings.workers} asks for processes that each train their own runs, and a launcher "
                f"started {launched} that train each run together. Use one of the two: start flops-fit without the "
                "launcher, or with train.workers=1."
            )
        return 1
    trunks = group_by_trunk(experiments, share_trunks=settings.share_trunks)
    wanted = (
        _automatic(experiments, sum(map(rough_seconds, trunks))) if settings.workers == "auto" else settings.workers
    )
    return max(1, min(wanted, len(trunks)))


def _automatic(experiments: Sequence[Experiment], seconds: float) -> int:
    """As many as leave the results unchanged: runs large enough for several threads stay in one process."""
    if torch.accelerator.is_available():
        return torch.cuda.device_count()
    if any(e.num_params >= MIN_PARAMS_FOR_THREADS for e in experiments):
        return 1
    memory = free_host_bytes() / BYTES_PER_WORKER
    return int(min(torch.get_num_threads(), quota_of_cores(), memory, seconds / SECONDS_PER_WORKER))


def quota_of_cores() -> float:
    """Cores that the container may use; counting processors does not show this."""
    try:
        quota, period = CPU_QUOTA.read_text().split()
        return max(1.0, float(quota) / float(period))
    except (OSError, ValueError):  # No such group, or "max".
        return float("inf")
