"""A condition as the engine sees it: its task, the settings of the engine, and the folder of its runs."""

import hashlib
from pathlib import Path
from typing import Any

from flops_fit.config import resolve
from flops_fit.errors import ConfigError
from flops_fit.schema import build, canonical_json
from flops_fit.studies.legacy import TrainingConfig
from flops_fit.studies.settings import StudySpec
from flops_fit.tasks import Task
from flops_fit.training.settings import TrainSettings


def make_condition_task(function: str, train_file: Path | None, test_file: Path | None, gridsize: int) -> Task:
    """Calls the study's task function; another process can make the same task by it.

    Raises:
        ConfigError: If it returns something else than a task.
    """
    task = resolve(function, setting="study.task")(train_file, test_file, gridsize=gridsize)
    if not isinstance(task, Task):
        raise ConfigError(f"study.task: {function} returned {type(task).__name__}, expected a Task.")
    return task


def task_arguments(study: StudySpec, config: TrainingConfig) -> tuple[str, Path | None, Path | None, int]:
    """Arguments of `make_condition_task`."""
    return study.task, config.train_data_file, config.test_data_file, config.model.gridsize


def engine_settings(study: StudySpec) -> TrainSettings:
    """Settings of the engine.

    Raises:
        ConfigError: If one is unknown or out of range.
    """
    return build(TrainSettings, study.engine, path="study.engine")


def workplace(artifact_dir: Path, kind: str, task: Task, recipe: Any) -> Path:
    """Folder of the runs of a task under a recipe.

    Runs of another task, such as on other data, or under another recipe never share a folder, so their hash names it.
    """
    content = canonical_json({"task": task.fingerprint, "recipe": recipe})
    return artifact_dir / f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"
