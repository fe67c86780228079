"""Launchers of `flops-fit train`: their options, and what is started or submitted with them."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flops_fit.console import print_json, print_message
from flops_fit.errors import InputError
from flops_fit.launching import LaunchOptions, batch_job, launcher_command, run_command, submit

PANEL = "Launchers"

Launcher = Annotated[
    str,
    typer.Option(
        help="local (this command itself), accelerate or torchrun (processes on this machine), or slurm (a job).",
        rich_help_panel=PANEL,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(help="Processes that train each run together, on each node: as many as GPUs.", rich_help_panel=PANEL),
]
Sharded = Annotated[
    bool, typer.Option("--sharded", help="Let each process hold a part of the model (FSDP).", rich_help_panel=PANEL)
]
Nodes = Annotated[
    int | None, typer.Option(help="slurm: nodes whose processes train each run together.", rich_help_panel=PANEL)
]
Array = Annotated[
    int | None, typer.Option(help="slurm: workers that each train their own runs, 4 by default.", rich_help_panel=PANEL)
]
Gpus = Annotated[int | None, typer.Option(help="slurm: GPUs of each node or each worker.", rich_help_panel=PANEL)]
Time = Annotated[str | None, typer.Option(help="slurm: time limit, such as 04:00:00.", rich_help_panel=PANEL)]
Partition = Annotated[str | None, typer.Option(help="slurm: partition of the cluster.", rich_help_panel=PANEL)]


def train_options(*, workers: str | None, retry_failed: bool, only: Sequence[str], as_json: bool) -> tuple[str, ...]:
    """Returns the words that the started processes get, too."""
    words = () if workers is None else ("--workers", workers)
    filters = [word for text in only for word in ("--only", text)]
    return (*words, *filters, *["--retry-failed"] * retry_failed, *["--json"] * as_json)


def launch(options: LaunchOptions, *, dry_run: bool, as_json: bool) -> NoReturn:
    """Starts or submits what the options ask for, or only prints it, and exits with its code.

    Raises:
        InputError: If the folder's sweep was made from Python.
        StoreError: If the folder holds no sweep.
    """
    from flops_fit.store import open_store

    open_store(options.directory)
    if not (options.directory / "config.yaml").is_file():
        raise InputError(
            f"{options.directory} has no config.yaml: its sweep was made from Python, and only that script knows model "
            "and data. Start the script itself with torchrun, `accelerate launch` or sbatch."
        )
    if options.launcher == "slurm":
        _launch_on_slurm(options, dry_run=dry_run, as_json=as_json)
    else:
        _launch_here(options, dry_run=dry_run, as_json=as_json)


def _launch_here(options: LaunchOptions, *, dry_run: bool, as_json: bool) -> NoReturn:
    command = launcher_command(options, os.environ)
    if not dry_run:
        raise typer.Exit(run_command(command, should_restart=_Progress(options.directory).should_restart))
    if as_json:
        print_json({"argv": command.argv, "environment": dict(command.environment)})
    else:
        print(" ".join([*(f"{k}={v}" for k, v in command.environment.items()), shlex.join(command.argv)]))
    raise typer.Exit


class _Progress:
    """Attempts and results of a sweep since the last look; none under SLURM, which starts the whole step again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen = self._count()[0]

    def should_restart(self) -> bool:
        """Whether there is something new, and something left to train."""
        before, (self._seen, left) = self._seen, self._count()
        return "SLURM_STEP_ID" not in os.environ and left > 0 and self._seen > before

    def _count(self) -> tuple[int, int]:
        from flops_fit.store import open_store

        store = open_store(self._directory)
        listing = store.listing()
        attempts = sum(map(len, listing.claims.values())) + len(listing.results)
        return attempts, sum(store.outcome(run.experiment_id, listing) is None for run in store.plan.experiments)


def _launch_on_slurm(options: LaunchOptions, *, dry_run: bool, as_json: bool) -> NoReturn:
    job = batch_job(options)
    facts: dict[str, object] = {"argv": job.argv, "path": str(job.path)}
    if dry_run:
        print_json({**facts, "script": job.text}) if as_json else print(f"{job.text}\n{shlex.join(job.argv)}")
        raise typer.Exit
    number = submit(job)
    if as_json:
        print_json({**facts, "job": number})
    else:
        print(number)
    print_message(f"submitted {job.path.name} as job {number}; `flops-fit status {options.directory}` shows progress.")
    raise typer.Exit
