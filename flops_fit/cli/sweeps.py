"""Verbs that plan and train a sweep: run, plan, train, status."""

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flops_fit.cli.app import AsJson, ConfigDir, Overrides, Strict, app
from flops_fit.cli.fits import exit_unless_trusted
from flops_fit.cli.help import PlanCommand
from flops_fit.cli.launchers import (
    Array,
    Gpus,
    Launcher,
    Nodes,
    Partition,
    Processes,
    Sharded,
    Time,
    launch,
    train_options,
)
from flops_fit.cli.paths import check_output_folder, check_sweep_folder
from flops_fit.console import (
    is_main_process,
    print_json,
    print_message,
    print_pending,
    print_plan,
    print_status,
)
from flops_fit.launching import LaunchOptions
from flops_fit.quantities import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flops_fit.fitting.trust import Trust
    from flops_fit.records import Experiment
    from flops_fit.result import Result
    from flops_fit.store import Store

FAILED_RUNS = 3
HELD_BY_OTHERS = 4


@app.command(cls=PlanCommand)
def run(
    overrides: Overrides = None, strict: Strict = False, as_json: AsJson = False, config_dir: ConfigDir = None
) -> None:
    """Plan, train, fit and report. Running it again resumes."""
    from flops_fit.api import run_sweep
    from flops_fit.config import build_task, load_config
    from flops_fit.store import open_store

    config, text = load_config(overrides or (), config_dir=config_dir)
    check_output_folder(config.out)
    task = build_task(config.task)
    with contextlib.redirect_stdout(sys.stderr):  # What a model prints is no result.
        result = run_sweep(
            task, config.sweep, config.out, train=config.train, fit=config.fit, seed=config.seed, config=text,
            remake_task=partial(build_task, config.task),
        )  # fmt: skip
    store = open_store(Path(config.out))
    if is_main_process():
        exit_unless_trusted(_print_result(result, store, as_json), strict)
    _exit_for(store)


@app.command(cls=PlanCommand)
def plan(overrides: Overrides = None, as_json: AsJson = False, config_dir: ConfigDir = None) -> None:
    """Show the grid, what was rejected and why, its FLOPs, and its time and memory here. Writes nothing."""
    from flops_fit.api import plan_task
    from flops_fit.config import build_task, load_config
    from flops_fit.distributed import open_world
    from flops_fit.planning.checks import check_plan
    from flops_fit.schema import to_plain
    from flops_fit.training.estimate import estimate_cost

    config, _ = load_config(overrides or (), config_dir=config_dir)
    task = build_task(config.task)
    sweep = plan_task(task, config.sweep, seed=config.seed)
    with open_world() as world, contextlib.redirect_stdout(sys.stderr):  # What a model prints is no result.
        cost = estimate_cost(task, sweep, world, config.train) if task.train_data is not None else None
    if as_json:
        counts = {"total_flops": sweep.total_flops, "num_experiments": sweep.num_experiments}
        findings = check_plan(sweep, unique_tokens=task.unique_tokens)
        print_json({**to_plain(sweep), **counts, "estimate": to_plain(cost), "findings": to_plain(findings)})
        return
    print_plan(sweep, cost)


@app.command()
def train(
    directory: Annotated[Path, typer.Argument(help="A sweep's folder, made by `flops-fit run`.")],
    workers: Annotated[str | None, typer.Option(help="Processes that train runs in parallel, or auto.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train failed runs again.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only such runs: num_params>=1e8, compute_budget<1e18, experiment_id=ID, ..."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be trained, or print what would be started.")
    ] = False,
    launcher: Launcher = "local",
    processes: Processes = None,
    sharded: Sharded = False,
    nodes: Nodes = None,
    array: Array = None,
    gpus: Gpus = None,
    time: Time = None,
    partition: Partition = None,
    as_json: AsJson = False,
) -> None:
    """Train the runs of a sweep that have no result yet, also under torchrun, accelerate launch and SLURM."""
    from flops_fit.errors import PlanMismatch
    from flops_fit.store import open_store
    from flops_fit.store.filters import choose_runs, parse_filters

    check_sweep_folder(directory)
    filters = parse_filters(only or ())
    options = LaunchOptions(
        directory=directory.absolute(), launcher=launcher, processes=processes, sharded=sharded, nodes=nodes,
        array=array, gpus=gpus, time=time, partition=partition,
        train_options=train_options(workers=workers, retry_failed=retry_failed, only=only or (), as_json=as_json),
    )  # fmt: skip
    if options.launcher != "local":
        launch(options, dry_run=dry_run, as_json=as_json)
    from flops_fit.api import train_into
    from flops_fit.config import build_task, read_config, with_workers

    config = read_config(directory / "config.yaml")
    engine = with_workers(config.train, workers)
    store = open_store(directory)
    chosen = choose_runs(store.plan.experiments, filters)
    if dry_run:
        pending = [run for run in store.pending(retry_failed=retry_failed) if run in chosen]
        print_pending(store, pending, as_json=as_json)
        return
    task = build_task(config.task)
    if task.fingerprint != store.plan.task_fingerprint:
        raise PlanMismatch(
            f"{directory} was planned for model, data and loss {store.plan.task_fingerprint}, but they are "
            f"{task.fingerprint} here: code, text or Python version has changed. Nothing was trained. "
            "Start a new folder with `flops-fit run out=DIR`, or restore what it was planned with."
        )
    with contextlib.redirect_stdout(sys.stderr):  # What a model prints is no result.
        train_into(
            store, task, engine, remake_task=partial(build_task, config.task), retry_failed=retry_failed,
            only={run.experiment_id for run in chosen}, wait=False,
        )  # fmt: skip
    if as_json and is_main_process():
        from flops_fit.claims import sweep_status

        print_json(sweep_status(store))
    _exit_for(store, chosen)


@app.command()
def status(directory: Annotated[Path, typer.Argument(help="A sweep's folder.")], as_json: AsJson = False) -> None:
    """Show sweep progress: what is done, pending or failed, and why."""
    from flops_fit.claims import sweep_status
    from flops_fit.store import open_store

    check_sweep_folder(directory)
    store = open_store(directory)
    if as_json:
        print_json(sweep_status(store))
    else:
        print_status(store)


def _print_result(result: "Result", store: "Store", as_json: bool) -> "Trust":
    """Prints the fit and a prediction at ten times the largest budget; returns whether to trust it."""
    from flops_fit.claims import sweep_status
    from flops_fit.reporting import format_summary

    can_predict = result.laws.recommended is not None
    prediction = result.predict(10 * max(store.plan.compute_budgets)) if can_predict else None
    trust = (prediction.trust if prediction else None) or result.laws.trust
    report = store.root / "report" / "index.html"
    if as_json:
        print_json(
            {
                "fit": result.laws.to_plain(),
                "prediction": prediction.to_plain() if prediction else None,
                "report": str(report),
                "status": sweep_status(store),
                "trust": trust.to_plain(),
            }
        )
        return trust
    print(result.chinchilla_table())
    print()
    print(format_summary(result.laws, prediction))
    print(f"\nreport: {report}")
    return trust


def _exit_for(store: "Store", chosen: "Sequence[Experiment] | None" = None) -> None:
    listing = store.listing()
    outcomes = [store.outcome(run.experiment_id, listing) for run in chosen or store.plan.experiments]
    if None in outcomes:
        left = sum(outcome is None for outcome in outcomes)
        print_message(
            f"{count_of(left, 'run')} left, which other workers hold; `flops-fit status {store.root}` shows them."
        )
        raise typer.Exit(HELD_BY_OTHERS)
    if any(outcome is not None and outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(FAILED_RUNS)
