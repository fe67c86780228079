"""One run outside a grid, through the same store, engine and resume as a sweep's runs."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from flops_fit.claims import admitted, this_worker
from flops_fit.console import is_main_process
from flops_fit.distributed import open_world
from flops_fit.errors import ContractError, PlanError
from flops_fit.launching.accelerate_options import launched_precision
from flops_fit.planning.isoflop import Subject, make_experiment
from flops_fit.planning.recipe import RecipeRule, recipe_for
from flops_fit.records import Recipe, RunResult, SweepPlan
from flops_fit.schema import build
from flops_fit.stopping import signals_request_stop
from flops_fit.store import Store, add_runs
from flops_fit.tasks import Task, plain_kwargs, probe_sizes
from flops_fit.tasks.loss_check import check_loss_is_mean
from flops_fit.training.settings import TrainSettings
from flops_fit.training.sweep import train_sweep, warn_of_missing_weights
from flops_fit.training.weights import EvaluationCallback

logger = logging.getLogger(__name__)


def train_one(
    task: Task,
    size: int,
    num_tokens: int,
    *,
    out: str | Path,
    recipe: Recipe | RecipeRule | Mapping[str, Any] | None = None,
    train_config: TrainSettings | Mapping[str, Any] | None = None,
    seed: int = 0,
    on_evaluation: EvaluationCallback | None = None,
) -> RunResult:
    """Trains one size on ``num_tokens``, or returns the result that the folder holds of just this run.

    Calling it again goes on where it stopped, and trains a failed run once more. Another size, seed or number of
    tokens joins the same folder, where task and recipe are the same. It may run under any launcher.

    Args:
        task: Model, data and loss, from `flops_fit.tasks.make_task`.
        size: Value of the task's size parameter.
        num_tokens: D; rounded down to whole samples.
        out: Folder of the run, made as needed; a sweep's folder takes it too.
        recipe: A `Recipe` as it is, or a rule or its settings, from which the recipe follows by N; None: the defaults.
        train_config: Engine settings (precision, ``keep_weights``, ...); ``workers`` has no effect.
        seed: Of weights and data order.
        on_evaluation: Called at every tenth of the steps where ``keep_weights`` asks for the best weights.

    Returns:
        How the run ended: see its ``status``. ``Path(out) / result.weights["final"]`` is the file of its weights,
        where ``keep_weights`` asks for them.

    Raises:
        ContractError: If model, data or loss cannot be used.
        PlanError: If ``num_tokens`` is less than a sample.
        ConfigError: If a setting is unknown or out of range.
        PlanMismatch: If ``out`` belongs to runs of another task or recipe; nothing is changed then.
    """
    settings = train_config if isinstance(train_config, TrainSettings) else build(TrainSettings, train_config or {})
    settings = replace(settings, precision=launched_precision(settings.precision))
    plan = plan_single_run(task, size, num_tokens, recipe=recipe, seed=seed)
    (run,) = plan.experiments
    store = add_runs(Path(out), plan)
    with open_world() as world:
        found: RunResult | None = world.agree(store.outcome(run.experiment_id) if world.is_main else None)
        if found is not None and found.status != "failed":
            warn_of_missing_weights((found,), settings)
            return found
        check_loss_is_mean(task, size, run.num_params)
        newest = store.listing().newest(run.experiment_id)
        with admission(store), signals_request_stop():
            train_sweep(
                task, (run,), store, world=world, settings=settings, on_evaluation=on_evaluation,
                retry={run.experiment_id: newest},
            )  # fmt: skip
        result: RunResult = world.agree(store.outcome(run.experiment_id) if world.is_main else None)
        if world.is_main:
            store.write_view("results.csv", store.results_csv())
        return result


def admission(store: Store) -> AbstractContextManager[bool]:
    """Lets this command train in a folder, once for all its processes; gives whether others may at the same time."""
    return admitted(store.root, this_worker()) if is_main_process() else nullcontext(True)


def plan_single_run(
    task: Task,
    size: int,
    num_tokens: int,
    *,
    recipe: Recipe | RecipeRule | Mapping[str, Any] | None = None,
    seed: int = 0,
) -> SweepPlan:
    """Plans one run, with FLOPs as measured on its model; arguments and errors as of `train_one`."""
    if task.train_data is None or task.eval_data is None:
        raise ContractError(
            f"task {task.name!r} has no {'train' if task.train_data is None else 'eval'}_data, expected data to train "
            "on and held-out data to evaluate on. Give both to make_task."
        )
    subject = subject_of(task)
    unit = subject.tokens_per_sample
    rounded = int(num_tokens) // unit * unit
    if rounded < 1:
        raise PlanError(
            f"num_tokens: got {num_tokens!r}, expected at least {unit}, the {task.data_unit} of one sample. "
            f"Give more {task.data_unit}."
        )
    if rounded != num_tokens:
        logger.info("num_tokens: %s rounded down to %s, whole samples of %d", f"{num_tokens:,}", f"{rounded:,}", unit)
    (probe,), _ = probe_sizes(task, [size], measure=True)
    assert probe.flops_per_token is not None
    if not isinstance(recipe, Recipe):
        rule = recipe if isinstance(recipe, RecipeRule) else build(RecipeRule, recipe or {}, path="recipe")
        recipe = recipe_for(rule, probe, unit)
    run = make_experiment(
        compute_budget=probe.flops_per_token * rounded,
        probe=probe,
        num_tokens=rounded,
        recipe=recipe,
        flops_per_token=probe.flops_per_token,
        subject=subject,
        seed=seed,
    )
    return SweepPlan(
        experiments=(run,),
        rejected=(),
        model_cls_name=subject.model_cls_name,
        size_param=subject.size_param,
        compute_budgets=(run.compute_budget,),
        model_kwargs=dict(subject.model_kwargs),
        flops_convention="measured",
        task_name=subject.task_name,
        task_fingerprint=subject.task_fingerprint,
        data_unit=subject.data_unit,
    )


def subject_of(task: Task) -> Subject:
    """Returns what planning has to know of a task, as plain values."""
    return Subject(
        model_cls_name=task.model_cls_name,
        size_param=task.size_param,
        model_kwargs=plain_kwargs(task.model_kwargs),
        task_name=task.name,
        task_fingerprint=task.fingerprint,
        tokens_per_sample=task.tokens_per_sample,
        unique_tokens=task.unique_tokens,
        data_unit=task.data_unit,
    )
