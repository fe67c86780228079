"""The way from a model class to a fitted scaling law, for callers from Python and for the command line."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from flops_fit.data import as_source, split_held_out
from flops_fit.distributed import open_world
from flops_fit.errors import ConfigError, ContractError, PlanError, StoreError
from flops_fit.fitting import mock_law, simulate_results
from flops_fit.planning.checks import check_plan
from flops_fit.planning.isoflop import Subject, SweepSettings, candidate_sizes, plan_isoflop
from flops_fit.records import SweepPlan
from flops_fit.result import Result, load_result
from flops_fit.schema import build
from flops_fit.store import Store, create_store
from flops_fit.tasks import Task, make_task, plain_kwargs, probe_sizes
from flops_fit.tasks.loss_check import check_loss_is_mean
from flops_fit.training import train_sweep
from flops_fit.training.settings import TrainSettings
from flops_fit.training.sweep import ProgressCallback, eval_tokens
from flops_fit.training.workers.count import worker_count
from flops_fit.training.workers.process import is_portable
from flops_fit.training.workers.scheduler import train_with_workers

MODES = ("local", "mock")
# Noise of a simulated run, standard deviation in log loss: about what seeds of one recipe differ by.
MOCK_NOISE = 0.003

logger = logging.getLogger(__name__)


def find_optimal(
    model_cls: Callable[..., nn.Module],
    model_size_param: str,
    model_kwargs: Mapping[str, Any] | None = None,
    dataset: Any = None,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    compute_budgets: Sequence[float] | None = None,
    *,
    eval_dataset: Any = None,
    train: bool = True,
    mode: str = "local",
    output_dir: str | Path = "outputs",
    resume: bool = True,
    sweep: SweepSettings | Mapping[str, Any] | None = None,
    train_config: TrainSettings | Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Result | SweepPlan:
    """Plans a sweep of small runs of your model, trains them, and fits scaling laws.

    Args:
        model_cls: ``model_cls(**{model_size_param: n}, **model_kwargs)`` returns an ``nn.Module``.
        model_size_param: Name of the constructor argument that sets the size, such as "d_model".
        model_kwargs: Other constructor arguments.
        dataset: Training data: map-style, iterable or a DataLoader, of ``(inputs, targets)`` or mappings.
        loss_fn: ``loss_fn(outputs, targets)``; None for models whose output has a ``.loss``.
        compute_budgets: C of each IsoFLOP curve, training FLOPs; five or more for a fit.
        eval_dataset: Held-out data; None keeps a part of ``dataset`` apart.
        train: False returns the plan without training.
        mode: "local" trains; "mock" simulates losses from a seeded law, without a forward pass.
        output_dir: Folder of the sweep. Calling again with the same arguments goes on where it stopped.
        resume: False refuses a folder that already holds results.
        sweep: Grid settings; FLOPs are measured on the model unless they say otherwise.
        train_config: Engine settings (precision, micro-batch, ...). With ``workers`` above 1, model, data and loss
            must come from a module that another process can import, and the script that calls this is not run again.
        seed: Of weights, data order and simulated noise.

    Returns:
        The fitted result; the plan alone if ``train`` is False or there is no data or loss to train with.

    Raises:
        ContractError: If model, data or loss cannot be used (checked in this order).
        PlanError: If there are no budgets, or no sensible sweep exists for them.
        ConfigError: If a setting is unknown or out of range.
        FitError: If too few runs are usable; the runs are kept.
        PlanMismatch: If ``output_dir`` belongs to another sweep; nothing is changed then.
    """
    if mode not in MODES:
        raise ConfigError(f"mode: got {mode!r}, expected one of {', '.join(map(repr, MODES))}.")
    settings = _sweep_settings(sweep, compute_budgets, measured=dataset is not None)
    engine = train_config if isinstance(train_config, TrainSettings) else build(TrainSettings, train_config or {})
    task = _user_task(model_cls, model_size_param, model_kwargs, dataset, eval_dataset, loss_fn)
    plan = plan_task(task, settings, seed=seed)
    trainable = task.train_data is not None and _has_loss(task)
    if not train or (mode == "local" and not trainable):
        return plan
    store = create_store(Path(output_dir), plan)
    if not resume and store.results():
        raise StoreError(
            f"{store.root} already holds {len(store.results())} finished runs and resume=False was given. "
            "Choose another output_dir, or resume=True to go on with it."
        )
    if mode == "mock":
        simulate_into(store, seed=seed)
    else:
        parts = (model_cls, model_size_param, model_kwargs, dataset, eval_dataset, loss_fn)
        train_into(store, task, engine, make_task=partial(_user_task, *parts))
    return load_result(store.root)


def plan_sweep(
    model_cls: Callable[..., nn.Module],
    size_param: str,
    model_kwargs: Mapping[str, Any] | None = None,
    compute_budgets: Sequence[float] | None = None,
    *,
    num_sizes_per_budget: int = 7,
    min_size: int = 64,
    max_size: int = 8192,
    size_multiple: int = 64,
    flops_per_param_per_token: float | str = 6,
) -> SweepPlan:
    """Plans an IsoFLOP sweep without data: sizes are built on the meta device and counted.

    Args:
        model_cls: As in `find_optimal`.
        size_param: Name of the constructor argument that sets the size.
        model_kwargs: Other constructor arguments.
        compute_budgets: C of each IsoFLOP curve, training FLOPs.
        num_sizes_per_budget: Sizes at each budget, fewer where fewer are feasible.
        min_size: Smallest value of the size parameter to consider.
        max_size: Largest value.
        size_multiple: Only multiples of this are considered.
        flops_per_param_per_token: f in C = f N D, or "measured" for models with ``flops_per_token()``.

    Raises:
        ContractError: If the model class cannot be used.
        PlanError: If there is no budget, or one that no size fits.
    """
    grid = {
        "num_sizes_per_budget": num_sizes_per_budget,
        "min_size": min_size,
        "max_size": max_size,
        "size_multiple": size_multiple,
        "flops_per_param_per_token": flops_per_param_per_token,
    }
    settings = _sweep_settings(grid, compute_budgets, measured=False)
    return plan_task(make_task(model_cls, size_param, model_kwargs), settings)


def plan_task(task: Task, settings: SweepSettings, *, seed: int = 0) -> SweepPlan:
    """Probes the sizes of a task and lays the grid over them."""
    if not settings.compute_budgets:
        raise PlanError(
            "compute_budgets: got none, expected training FLOPs such as [1e17, 3e17, 1e18, 3e18, 1e19] "
            "(five or more, so that the fit can be checked)."
        )
    measure = settings.flops_per_param_per_token == "measured" or task.train_data is not None
    probes, rejected = probe_sizes(task, candidate_sizes(settings), measure=measure)
    subject = Subject(
        model_cls_name=task.model_cls_name,
        size_param=task.size_param,
        model_kwargs=plain_kwargs(task.model_kwargs),
        task_name=task.name,
        task_fingerprint=task.fingerprint,
        tokens_per_sample=task.tokens_per_sample,
        unique_tokens=task.unique_tokens,
        data_unit=task.data_unit,
    )
    plan = plan_isoflop(probes, settings, subject, rejected=rejected, seed=seed)
    for finding in check_plan(plan, unique_tokens=task.unique_tokens):
        logger.warning("%s %s", finding.message, finding.advice)
    return plan


def train_into(
    store: Store,
    task: Task,
    settings: TrainSettings,
    *,
    make_task: Callable[[], Task],
    retry_failed: bool = False,
    progress: ProgressCallback | None = None,
) -> None:
    """Trains every run of the store's plan that has no result yet; on any launcher, by all ranks together.

    Args:
        store: Of the sweep.
        task: Model, data and loss.
        settings: Of the engine.
        make_task: Makes the same task again, in a worker process.
        retry_failed: Whether to train failed runs once more.
        progress: Told of each run that has ended.

    Raises:
        ConfigError: If ``settings.workers`` is above 1 and another process cannot make the task.
        ContractError: If the loss is a sum over the batch.
        LaunchError: If it is and a launcher has started several processes.
    """
    pending = store.pending(retry_failed=retry_failed)
    if pending:
        smallest = min(pending, key=lambda experiment: experiment.num_params)
        check_loss_is_mean(task, smallest.size_param_value, smallest.num_params)
    workers = worker_count(settings, pending)
    if workers > 1 and (settings.workers != "auto" or is_portable(make_task)):
        train_with_workers(
            make_task, pending, store, workers=workers, settings=settings,
            eval_tokens=eval_tokens(task, settings), progress=progress,
        )  # fmt: skip
        store.write_view("results.csv", store.results_csv())
        return
    with open_world() as world:
        train_sweep(task, pending, store, world=world, settings=settings, progress=progress)
        if world.is_main:
            store.write_view("results.csv", store.results_csv())


def simulate_into(store: Store, *, seed: int) -> None:
    """Fills the store with results of a seeded law; no model is built and no forward pass made."""
    pending = {e.experiment_id for e in store.pending()}
    started = time.perf_counter()
    for result in simulate_results(store.plan, mock_law(store.plan), MOCK_NOISE, seed):
        if result.experiment.experiment_id in pending:
            store.publish_result(result)
    store.write_view("results.csv", store.results_csv())
    logger.info("simulated %d runs in %.1f s", len(pending), time.perf_counter() - started)


def _sweep_settings(
    sweep: SweepSettings | Mapping[str, Any] | None,
    compute_budgets: Sequence[float] | None,
    *,
    measured: bool,
) -> SweepSettings:
    if isinstance(sweep, SweepSettings):
        values: dict[str, Any] = dict(sweep.__dict__)
    else:
        values = {"flops_per_param_per_token": "measured"} if measured else {}
        values |= sweep or {}
    if compute_budgets is not None:
        values["compute_budgets"] = tuple(float(c) for c in compute_budgets)
    return SweepSettings(**values) if isinstance(sweep, SweepSettings) else build(SweepSettings, values, path="sweep")


def _user_task(
    model_cls: Callable[..., nn.Module],
    size_param: str,
    model_kwargs: Mapping[str, Any] | None,
    dataset: Any,
    eval_dataset: Any,
    loss_fn: Callable[[Any, Any], Any] | None,
) -> Task:
    bare = make_task(model_cls, size_param, model_kwargs)
    if dataset is None:
        return make_task(model_cls, size_param, bare.model_kwargs, loss_fn=loss_fn)
    train = as_source(dataset)
    held_out = None if eval_dataset is None else as_source(eval_dataset)
    if held_out is None:
        train, held_out = split_held_out(train)
    return make_task(
        model_cls,
        size_param,
        bare.model_kwargs,
        train_data=train,
        eval_data=held_out,
        loss_fn=loss_fn,
    )


def _has_loss(task: Task) -> bool:
    if task.loss_fn is not None or task.train_data is None:
        return task.loss_fn is not None
    try:
        import numpy as np

        return isinstance(task.train_data.batch(np.array([0])), Mapping)
    except ContractError:
        return False
