"""Launchers: accelerate, torchrun and SLURM, as `flops-fit train DIR --launcher NAME` starts them.

The commands and batch scripts are made by pure functions and never import torch, so that ``--dry-run`` is quick.
"""

from flops_fit.launching.commands import Command, launcher_command
from flops_fit.launching.options import LaunchOptions
from flops_fit.launching.running import report_exit_code, run_command
from flops_fit.launching.slurm import BatchJob, batch_job, submit

__all__ = [
    "BatchJob",
    "Command",
    "LaunchOptions",
    "batch_job",
    "launcher_command",
    "report_exit_code",
    "run_command",
    "submit",
]
