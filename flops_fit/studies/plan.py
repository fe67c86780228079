"""Plan of a study: what each job would train, and, where its data are there, FLOPs and time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flops_fit.studies.jobs import training_config
from flops_fit.studies.matrix import StudyJob


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """What one job would train."""

    job: StudyJob
    size: int
    num_samples: int
    has_data: bool
    num_params: int | None = None
    """N; None, as the next ones, without data."""
    num_tokens: int | None = None
    """D, in the task's data unit."""
    flops: float | None = None
    """Training FLOPs, as measured on the model."""
    epochs: float | None = None
    seconds: float | None = None
    """On this machine, in one process."""


def plan_jobs(jobs: Sequence[StudyJob]) -> list[PlannedJob]:
    """Plans the runner ``train`` for these jobs; time is probed once for each grid size and set of settings."""
    seconds: dict[int, float] = {}
    return [_plan(job, seconds) for job in jobs]


def sweep_flops(job: StudyJob) -> float:
    """FLOPs of a job's sweep with the runner ``sweep``, at most: some cells of its grid may be infeasible."""
    sweep = job.study.sweep
    return sum(sweep.compute_budgets) * sweep.num_sizes_per_budget * sweep.num_seeds


def _plan(job: StudyJob, seconds: dict[int, float]) -> PlannedJob:
    training = job.study.training
    has_data = job.train_data_path.is_file() and job.test_data_path.is_file()
    planned = PlannedJob(job=job, size=training.size, num_samples=training.num_samples, has_data=has_data)
    if not has_data:
        return planned
    # Without data no model is built, and the table comes without torch.
    from flops_fit.api.single_run import plan_single_run
    from flops_fit.distributed import open_world
    from flops_fit.studies.condition import engine_settings, make_condition_task, task_arguments
    from flops_fit.training.estimate import estimate_cost

    task = make_condition_task(*task_arguments(job.study, training_config(job)))
    num_tokens = training.num_samples * task.tokens_per_sample
    plan = plan_single_run(task, training.size, num_tokens, recipe=training.recipe, seed=job.study.seed)
    (run,) = plan.experiments
    if job.gridsize not in seconds:
        with open_world() as world:
            seconds[job.gridsize] = estimate_cost(task, plan, world, engine_settings(job.study)).seconds
    epochs = None if task.unique_tokens is None else run.num_tokens / task.unique_tokens
    return replace(
        planned,
        num_params=run.num_params,
        num_tokens=run.num_tokens,
        flops=plan.total_flops,
        epochs=epochs,
        seconds=seconds[job.gridsize],
    )
