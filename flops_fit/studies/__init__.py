"""Studies: a matrix of conditions, each trained through one typed configuration, with one manifest of what ran.

    flops-fit study simulate study=NAME --out data
    flops-fit study run study=NAME --phase-c-root data/phase_c --phase-d-root data/phase_d --artifact-root A
    flops-fit study status A

A study (configs/study) is every dose with every view, and a job is one of these conditions. `build_training_jobs` lists
the jobs from names alone. `run_training_job` hands a job's `TrainingConfig` once to `legacy_params`, the dictionary of
an older trainer, calls the job's runner and restores the dictionary. `main` is the command `flops-fit study`.

`matrix`: jobs and filters; `legacy`: configuration and bridge; `jobs`: one job; `runners`: their registry, with `train`
and `sweep`; `run`: all jobs; `manifest`: what ran; `compare`: the laws of conditions; `plan`, `simulate`, `status`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from flops_fit.studies.jobs import run_training_job
from flops_fit.studies.legacy import ModelConfig, TrainingConfig, legacy_params, update_legacy_dict
from flops_fit.studies.matrix import StudyJob, build_training_jobs
from flops_fit.studies.runners import RUNNERS

if TYPE_CHECKING:
    from flops_fit.cli.studies import main as main

__all__ = [
    "RUNNERS",
    "ModelConfig",
    "StudyJob",
    "TrainingConfig",
    "build_training_jobs",
    "legacy_params",
    "main",
    "run_training_job",
    "update_legacy_dict",
]


def __getattr__(name: str) -> Any:
    if name == "main":  # The command stands above this room, and is looked up only where somebody calls it.
        return importlib.import_module("flops_fit.cli.studies").main
    raise AttributeError(f"module 'flops_fit.studies' has no attribute {name!r}")
