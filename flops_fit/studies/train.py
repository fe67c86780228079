"""The runner ``train``: one training per condition through the engine, then the study's own measures of the model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from flops_fit.api import train_one
from flops_fit.config import resolve
from flops_fit.errors import ModelFailed
from flops_fit.files import file_hash
from flops_fit.studies.condition import engine_settings, make_condition_task, task_arguments, workplace
from flops_fit.studies.legacy import TrainingConfig
from flops_fit.studies.matrix import StudyJob
from flops_fit.tasks import Task, create_model


def train_condition(*, config: TrainingConfig, job: StudyJob, log_path: Path) -> Mapping[str, Any]:
    """Trains a condition; an interrupted training goes on where it stopped.

    Returns:
        ``loss`` on the held-out data at the end of the training, what the study's ``measure`` returns, and the
        ``checkpoint``, relative to the artifact root, with its SHA-256.

    Raises:
        ModelFailed: If the training fails or diverges.
    """
    study = job.study
    task = make_condition_task(*task_arguments(study, config))
    folder = workplace(job.artifact_dir, "train", task, study.training.recipe)
    result = train_one(
        task, study.training.size, study.training.num_samples * task.tokens_per_sample, out=folder,
        recipe=study.training.recipe,
        train_config=replace(engine_settings(study), keep_weights="final"), seed=study.seed,
    )  # fmt: skip
    if result.status != "completed":
        raise ModelFailed(f"the training {result.status}: {result.last_line} The runs are in {folder}.")
    checkpoint = folder / result.weights["final"]
    measure = resolve(study.measure, setting="study.measure")
    measured = measure(_load(task, study.training.size, checkpoint), config.test_data_file, gridsize=job.gridsize)
    return {
        **measured,
        "status": "completed",
        "loss": result.loss,
        "loss_std_error": result.loss_std_error,
        "size": study.training.size,
        "num_params": result.experiment.num_params,
        "num_tokens": result.tokens_seen,
        "epochs": result.epochs,
        "flops": result.flops_spent,
        "train_seconds": result.wall_seconds,
        "checkpoint": checkpoint.relative_to(job.artifact_root).as_posix(),
        "checkpoint_sha256": file_hash(checkpoint),
    }


def _load(task: Task, size: int, checkpoint: Path) -> nn.Module:
    """The model as the file holds it, ready to be measured."""
    model = create_model(task, size)
    model.load_state_dict(load_file(checkpoint))
    return model.eval()
