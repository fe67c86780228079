"""The main path: `run_sweep` plans a sweep, stores it, trains it, fits it, and writes its views and its report."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from flops_fit.api.single_run import admission, subject_of
from flops_fit.console import is_main_process
from flops_fit.distributed import open_world
from flops_fit.errors import PlanError, StoreError
from flops_fit.fitting import FitOptions, mock_law, simulate_results
from flops_fit.launching.accelerate_options import launched_precision
from flops_fit.planning.checks import check_plan
from flops_fit.planning.isoflop import plan_isoflop
from flops_fit.planning.settings import SweepSettings, candidate_sizes
from flops_fit.progress import SweepProgress
from flops_fit.records import Experiment, SweepPlan
from flops_fit.result import Result, load_result
from flops_fit.stopping import signals_request_stop
from flops_fit.store import Store, create_store
from flops_fit.tasks import Task, probe_sizes
from flops_fit.tasks.loss_check import check_loss_is_mean
from flops_fit.training import train_sweep
from flops_fit.training.settings import TrainSettings
from flops_fit.training.sweep import ProgressCallback, eval_tokens, warn_of_missing_weights
from flops_fit.training.workers.count import worker_count
from flops_fit.training.workers.process import is_portable
from flops_fit.training.workers.supervisor import train_with_workers

# Noise of a simulated run, standard deviation in log loss: about what seeds of one recipe differ by.
MOCK_NOISE = 0.003

logger = logging.getLogger(__name__)


def run_sweep(
    task: Task,
    settings: SweepSettings,
    out: str | Path,
    *,
    train: TrainSettings | None = None,
    fit: FitOptions | None = None,
    seed: int = 0,
    config: str | None = None,
    resume: bool = True,
    remake_task: Callable[[], Task] | None = None,
    progress: bool = True,
    plan: SweepPlan | None = None,
) -> Result:
    """Plans, stores, trains and fits a sweep; writes ``results.csv``, ``fit.json`` and ``report/index.html``.

    Everything that sweeps goes this way: `find_optimal`, `flops-fit run`, and what is built on them. Under a launcher
    all processes call it; the main one writes.

    Args:
        task: Model, data and loss.
        settings: The grid.
        out: Folder of the sweep. Calling again with the same arguments goes on where it stopped, and with more
            budgets, sizes or seeds trains what is new.
        train: Settings of the engine.
        fit: Options of the fit; None takes those of the folder's ``config.yaml``, or the defaults.
        seed: Of weights and data order.
        config: Text for ``config.yaml``; None where the sweep is made from Python.
        resume: False refuses a folder that already holds results.
        remake_task: Makes the same task again in a worker process; None trains in this process alone.
        progress: Whether to show runs and time left on stderr.
        plan: Of this task and these settings, where it is made already; None plans here.

    Raises:
        ContractError: If model, data or loss cannot be used.
        PlanError: If there are no budgets, or no sensible sweep exists for them.
        PlanMismatch: If ``out`` belongs to another sweep; nothing is changed then.
        StoreError: If the disk refuses.
        FitError: If too few runs are usable; the runs are kept.
    """
    plan = plan or plan_task(task, settings, seed=seed)
    store = _start(plan, out, config=config, resume=resume)
    train_into(store, task, train or TrainSettings(), remake_task=remake_task, progress=progress)
    return conclude(store, fit)


def simulate_sweep(
    task: Task, settings: SweepSettings, out: str | Path, *, seed: int = 0, resume: bool = True
) -> Result:
    """Does the same with the losses of a seeded law: no model is trained and no forward pass made."""
    store = _start(plan_task(task, settings, seed=seed), out, config=None, resume=resume)
    pending = {e.experiment_id for e in store.pending()}
    started = time.perf_counter()
    for result in simulate_results(store.plan, mock_law(store.plan), MOCK_NOISE, seed):
        if result.experiment.experiment_id in pending:
            store.publish_result(result)
    store.write_view("results.csv", store.results_csv())
    logger.info("simulated %d runs in %.1f s", len(pending), time.perf_counter() - started)
    return conclude(store)


def plan_task(task: Task, settings: SweepSettings, *, seed: int = 0) -> SweepPlan:
    """Probes the sizes of a task and lays the grid over them."""
    if not settings.compute_budgets:
        raise PlanError(
            "compute_budgets: got none, expected training FLOPs such as [1e17, 3e17, 1e18, 3e18, 1e19] "
            "(five or more, so that the fit can be checked)."
        )
    measure = settings.flops_per_param_per_token == "measured" or task.train_data is not None
    probes, rejected = probe_sizes(task, candidate_sizes(settings), measure=measure)
    plan = plan_isoflop(probes, settings, subject_of(task), rejected=rejected, seed=seed)
    if is_main_process():
        for finding in check_plan(plan, unique_tokens=task.unique_tokens):
            logger.warning("%s %s", finding.message, finding.advice)
    return plan


def train_into(
    store: Store,
    task: Task,
    settings: TrainSettings,
    *,
    remake_task: Callable[[], Task] | None = None,
    retry_failed: bool = False,
    progress: bool | ProgressCallback = True,
    only: Collection[str] | None = None,
    wait: bool = True,
) -> None:
    """Trains every run of the store's plan that has no result yet; on any launcher, by all ranks together.

    Any number of processes and machines may do this in one folder at the same time: each run is made by one of them.

    Args:
        store: Of the sweep.
        task: Model, data and loss.
        settings: Of the engine.
        remake_task: Makes the same task again in a worker process; None trains in this process alone.
        retry_failed: Whether to train failed runs once more.
        progress: Whether to show runs and time left on stderr, or a function that the main process calls after each.
        only: Ids of the runs to train; None for all.
        wait: Whether to wait for the runs that others hold; else this ends once they hold all that is left.

    Raises:
        Preempted: If a signal asked to stop; the run in hand has a checkpoint then.
        ConfigError: If ``settings.workers`` is above 1 and another process cannot make the task.
        ContractError: If the loss is a sum over the batch.
        LaunchError: If it is and a launcher has started several processes, or the launcher asks for what the engine
            does not do.
    """
    settings = replace(settings, precision=launched_precision(settings.precision))
    pending = store.pending(retry_failed=retry_failed)
    pending = tuple(run for run in pending if only is None or run.experiment_id in only)
    listing = store.listing()
    retry = {run.experiment_id: listing.newest(run.experiment_id) for run in pending} if retry_failed else {}
    warn_of_missing_weights(store.results(), settings)
    if pending:
        smallest = min(pending, key=lambda experiment: experiment.num_params)
        check_loss_is_mean(task, smallest.size_param_value, smallest.num_params)
    workers = worker_count(settings, pending)
    try:
        with admission(store) as shares, _progress_of(store, pending, progress) as notify, signals_request_stop():
            workers = workers if shares else 1
            if workers > 1 and remake_task is not None and (settings.workers != "auto" or is_portable(remake_task)):
                train_with_workers(
                    remake_task, pending, store, workers=workers, settings=settings,
                    eval_tokens=eval_tokens(task, settings), progress=notify, retry=retry, wait=wait,
                )  # fmt: skip
            else:
                with open_world() as world:
                    train_sweep(
                        task, pending, store, world=world, settings=settings, progress=notify, retry=retry, wait=wait
                    )
    finally:
        if is_main_process():
            store.write_view("results.csv", store.results_csv())


def _progress_of(
    store: Store, pending: Sequence[Experiment], progress: bool | ProgressCallback
) -> AbstractContextManager[ProgressCallback | None]:
    if isinstance(progress, bool):
        return SweepProgress(store, pending) if progress and is_main_process() else nullcontext()
    return nullcontext(progress)


def conclude(store: Store, options: FitOptions | None = None) -> Result:
    """Fits the runs of a store; the main process writes ``fit.json`` and the report.

    Raises:
        FitError: If too few runs are usable.
    """
    result = load_result(store.root, options=options)
    if is_main_process():
        result.write_fit()
        result.report()
    return result


def _start(plan: SweepPlan, out: str | Path, *, config: str | None, resume: bool) -> Store:
    store = create_store(Path(out), plan, config=config)
    if not resume and store.results():
        raise StoreError(
            f"{store.root} already holds {len(store.results())} finished runs and resume=False was given. "
            "Choose another output_dir, or resume=True to go on with it."
        )
    return store
