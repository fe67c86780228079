"""One job: its typed configuration handed to the legacy dictionary, its runner called, and the dictionary restored."""

from collections.abc import Mapping
from typing import Any, Protocol

from flops_fit import studies
from flops_fit.studies.legacy import ModelConfig, TrainingConfig, restore_defaults
from flops_fit.studies.matrix import StudyJob
from flops_fit.studies.results import plain_result


class RunJob(Protocol):
    """A runner: trains one condition and returns plain values; what it raises is the job's failure."""

    def __call__(self, *, config: TrainingConfig, job: StudyJob, log_path: Any) -> Mapping[str, Any] | None:
        """Runs a job, which may append to the text file ``log_path``."""
        ...


def run_training_job(job: StudyJob, runner: RunJob, *, dry_run: bool = False) -> dict[str, Any]:
    """Runs one job.

    `legacy_params` is a fresh copy of the defaults, `update_legacy_dict` is called on it once, then the runner; at the
    end, also where the runner raises, the dictionary holds the defaults again. A dry run does none of this.

    Args:
        job: The condition.
        runner: Called as ``runner(config=..., job=..., log_path=...)``.
        dry_run: Whether only to say that the job would run; nothing is written then.

    Returns:
        The result as plain values, with its ``status``: "completed" where the runner states none.

    Raises:
        ContractError: If the runner returns what strict JSON cannot hold.
        Exception: What the runner raises.
    """
    if dry_run:
        return {"status": "dry_run"}
    config = training_config(job)
    job.artifact_dir.mkdir(parents=True, exist_ok=True)
    job.log_path.parent.mkdir(parents=True, exist_ok=True)
    # Looked up on the package now: a user may have put a bridge of their own there.
    params = studies.legacy_params
    restore_defaults(params)
    try:
        studies.update_legacy_dict(params, config)
        return plain_result(runner(config=config, job=job, log_path=job.log_path))
    finally:
        restore_defaults(params)


def training_config(job: StudyJob) -> TrainingConfig:
    """The typed configuration of a job."""
    return TrainingConfig(
        model=ModelConfig(gridsize=job.gridsize, N=job.study.data.patch),
        train_data_file=job.train_data_path,
        test_data_file=job.test_data_path,
        output_dir=job.artifact_dir,
        nphotons=job.dose,
    )
