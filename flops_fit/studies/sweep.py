"""The runner ``sweep``: a sweep per condition, and its scaling law."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flops_fit.api import run_sweep
from flops_fit.errors import FitError
from flops_fit.studies.condition import engine_settings, make_condition_task, task_arguments, workplace
from flops_fit.studies.law import describe_law
from flops_fit.studies.legacy import TrainingConfig
from flops_fit.studies.matrix import StudyJob


def sweep_condition(*, config: TrainingConfig, job: StudyJob, log_path: Path) -> Mapping[str, Any]:
    """Trains and fits a condition's sweep; runs that its folder holds are not trained again.

    Returns:
        The ``law``, its loss at the condition's own largest compute for now (`compare.share_compute` later states it at
        the compute that all conditions reach), and the sweep's folder, relative to the artifact root.

    Raises:
        FitError: If the runs support no law; they are kept.
    """
    study = job.study
    make_task = partial(make_condition_task, *task_arguments(study, config))
    task, settings = make_task(), study.sweep
    recipe = {"recipe": settings.recipe, "flops": settings.flops_per_param_per_token}
    folder = workplace(job.artifact_dir, "sweep", task, recipe)
    result = run_sweep(
        task, settings, folder, train=engine_settings(study), seed=study.seed, remake_task=make_task
    )  # fmt: skip
    laws = result.laws
    if laws.recommended is None:
        raise FitError(f"the sweep supports no law: {laws.reason}. Its runs and report are in {folder}.")
    statuses = Counter(run.status for run in result.run_results or ())
    return {
        "status": "completed",
        "law": describe_law(laws, laws.recommended, laws.max_compute),
        "sweep_dir": folder.relative_to(job.artifact_root).as_posix(),
        "runs": dict(sorted(statuses.items())),
        "flops": sum(run.flops_spent - run.flops_from_trunk for run in result.run_results or ()),
        "train_seconds": sum(run.wall_seconds for run in result.run_results or ()),
    }
