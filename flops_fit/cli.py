"""The command `flops-fit`: verbs and options here, the work in the rooms below.

Progress and messages go to stderr; with ``--json`` stdout holds one JSON object and nothing else.
Torch is imported only by the verbs that build models.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flops_fit.console import (
    Progress,
    announce,
    fail,
    is_main_process,
    print_json,
    print_pending,
    print_plan,
    print_table,
    sweep_status,
)
from flops_fit.errors import FlopsFitError

if TYPE_CHECKING:
    from flops_fit.result import Result
    from flops_fit.store import Store

FAILED_RUNS = 3
INTERRUPTED = 130

app = typer.Typer(
    help="Plan a sweep of small runs, train it, fit scaling laws, and say how sure the answer is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
config_app = typer.Typer(help="Show what a command would be configured with.", no_args_is_help=True)
app.add_typer(config_app, name="config")

Overrides = Annotated[list[str] | None, typer.Argument(help="key=value and group=name, such as sweep=smoke.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
Source = Annotated[Path, typer.Argument(help="A sweep's folder, or a CSV, JSONL or Parquet file of runs.")]
Condition = Annotated[str | None, typer.Option(help="Which condition of the file to take.")]
MaxCompute = Annotated[float | None, typer.Option(help="Leave out runs above this many FLOPs.")]
ExcludeBad = Annotated[
    bool, typer.Option("--exclude-bad-rows", help="List bad rows as excluded instead of refusing the file.")
]
FitOverrides = Annotated[
    list[str] | None, typer.Argument(help="Options of the fit, key=value, such as huber_delta=1e-4 law=approach3.")
]
ConfigDir = Annotated[Path | None, typer.Option(help="A folder of your own configuration groups.")]


@app.command()
def run(overrides: Overrides = None, as_json: AsJson = False, config_dir: ConfigDir = None) -> None:
    """Plan, train, fit and report. Running it again resumes."""
    from flops_fit.api import plan_task
    from flops_fit.config import build_task, load_config
    from flops_fit.store import create_store

    config, text = load_config(overrides or (), config_dir=config_dir)
    task = build_task(config.task)
    plan = plan_task(task, config.sweep, seed=config.seed)
    store = create_store(Path(config.out), plan, config=text)
    announce(store)
    _train(store, task, partial(build_task, config.task), config.train)
    if is_main_process():
        _conclude(store, as_json)
    _exit_for(store)


@app.command()
def plan(overrides: Overrides = None, as_json: AsJson = False, config_dir: ConfigDir = None) -> None:
    """Show the grid, what was rejected and why, and the FLOPs it takes. Nothing is written."""
    from flops_fit.api import plan_task
    from flops_fit.config import build_task, load_config
    from flops_fit.planning.checks import check_plan
    from flops_fit.schema import to_plain

    config, _ = load_config(overrides or (), config_dir=config_dir)
    task = build_task(config.task)
    sweep = plan_task(task, config.sweep, seed=config.seed)
    if as_json:
        counts = {"total_flops": sweep.total_flops, "num_experiments": sweep.num_experiments}
        findings = check_plan(sweep, unique_tokens=task.unique_tokens)
        print_json({**to_plain(sweep), **counts, "findings": to_plain(findings)})
        return
    print_plan(sweep)


@app.command()
def train(
    directory: Annotated[Path, typer.Argument(help="A sweep's folder, made by `flops-fit run`.")],
    workers: Annotated[str | None, typer.Option(help="Processes that train side by side, or auto.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train failed runs once more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be trained.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the runs of a sweep that have no result yet; also under torchrun and accelerate launch."""
    from flops_fit.config import build_task, read_config, with_workers
    from flops_fit.errors import PlanMismatch
    from flops_fit.store import open_store

    config = read_config(directory / "config.yaml")
    engine = with_workers(config.train, workers)
    store = open_store(directory)
    if dry_run:
        print_pending(store, retry_failed=retry_failed)
        return
    task = build_task(config.task)
    if task.fingerprint != store.plan.task_fingerprint:
        raise PlanMismatch(
            f"{directory} was planned for model, data and loss {store.plan.task_fingerprint}, and here they "
            f"are {task.fingerprint}: code, text or Python version changed since. Nothing was trained. "
            "Start a new folder with `flops-fit run out=DIR`, or go back to what it was planned with."
        )
    _train(store, task, partial(build_task, config.task), engine, retry_failed=retry_failed)
    if as_json and is_main_process():
        print_json(sweep_status(store))
    _exit_for(store)


@app.command()
def status(directory: Annotated[Path, typer.Argument(help="A sweep's folder.")], as_json: AsJson = False) -> None:
    """Say how far a sweep is."""
    from flops_fit.store import open_store

    store = open_store(directory)
    counts = sweep_status(store)
    if as_json:
        print_json(counts)
        return
    print(f"{store.root}: {store.plan!r}")
    print(", ".join(f"{counts[k]} {k}" for k in ("completed", "diverged", "failed", "pending")))
    for failure in counts["problems"]:
        print(f"  {failure['experiment_id']} {failure['status']}: {failure['reason']}")


@app.command()
def fit(
    source: Source,
    overrides: FitOverrides = None,
    condition: Condition = None,
    max_compute: MaxCompute = None,
    exclude_bad_rows: ExcludeBad = False,
    as_json: AsJson = False,
) -> None:
    """Fit scaling laws to a sweep or to anyone's table of runs."""
    from flops_fit.reporting import format_summary

    result = _load(source, overrides, condition, max_compute, exclude_bad_rows)
    _write_fit(result)
    if as_json:
        print_json(result.laws.to_plain())
    else:
        print(format_summary(result.laws, None))


@app.command()
def predict(
    source: Source,
    compute: Annotated[float, typer.Option(help="Training FLOPs of the model to plan for, such as 1e21.")],
    overrides: FitOverrides = None,
    law: Annotated[str | None, typer.Option(help="Method to use instead of the recommended one.")] = None,
    condition: Condition = None,
    max_compute: MaxCompute = None,
    exclude_bad_rows: ExcludeBad = False,
    as_json: AsJson = False,
) -> None:
    """Predict the compute-optimal size, tokens and loss at one budget."""
    from flops_fit.reporting import format_summary

    result = _load(source, overrides, condition, max_compute, exclude_bad_rows)
    prediction = result.predict(compute, law=law)
    if as_json:
        print_json(prediction.to_plain())
    else:
        print(format_summary(result.laws, prediction))


@app.command()
def report(
    source: Source,
    overrides: FitOverrides = None,
    out: Annotated[Path | None, typer.Option(help="HTML file; by default DIR/report/index.html.")] = None,
    condition: Condition = None,
    max_compute: MaxCompute = None,
    exclude_bad_rows: ExcludeBad = False,
    as_json: AsJson = False,
) -> None:
    """Write the evidence as one HTML file."""
    result = _load(source, overrides, condition, max_compute, exclude_bad_rows)
    path = result.report(out if out or source.is_dir() else Path("report.html"))
    print_json({"report": str(path)}) if as_json else print(path)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show what this machine offers, to paste into an issue."""
    from flops_fit.launching import describe_machine

    facts = describe_machine()
    if as_json:
        print_json(facts)
    else:
        print_table(("fact", "value"), [(key, str(value)) for key, value in facts.items()])


@config_app.command("show")
def config_show(overrides: Overrides = None, as_json: AsJson = False, config_dir: ConfigDir = None) -> None:
    """Print the composed configuration with every default."""
    from omegaconf import OmegaConf

    from flops_fit.config import load_config
    from flops_fit.schema import to_plain

    config, _ = load_config(overrides or (), config_dir=config_dir)
    plain = to_plain(config)
    print_json(plain) if as_json else print(OmegaConf.to_yaml(OmegaConf.create(plain)), end="")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    # The matrices of a fit are small: threads of BLAS, which numpy reads once, cost three times what they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "accelerate", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app(args=None if argv is None else list(argv), prog_name="flops-fit")
    except FlopsFitError as error:
        fail(str(error), error.exit_code)
    except ValueError as error:
        # Arguments are checked where they are used; a plain ValueError there is wrong input too.
        if os.environ.get("FLOPS_FIT_DEBUG"):
            raise
        fail(str(error), 2)
    except KeyboardInterrupt:
        fail("interrupted; what finished is kept. Run the same command again to go on.", INTERRUPTED)


def _train(store: "Store", task: Any, make_task: Any, engine: Any, *, retry_failed: bool = False) -> None:
    from flops_fit.api import train_into

    progress = Progress(store, retry_failed=retry_failed)
    with contextlib.redirect_stdout(sys.stderr):  # What a model prints is no result.
        train_into(store, task, engine, make_task=make_task, retry_failed=retry_failed, progress=progress)


def _conclude(store: "Store", as_json: bool) -> None:
    from flops_fit.reporting import format_summary
    from flops_fit.result import load_result

    result = load_result(store.root)
    target = 10 * max(store.plan.compute_budgets)
    prediction = result.predict(target)
    _write_fit(result)
    path = result.report()
    if as_json:
        print_json(
            {
                "fit": result.laws.to_plain(),
                "prediction": prediction.to_plain(),
                "report": str(path),
                "status": sweep_status(store),
            }
        )
        return
    print(result.chinchilla_table())
    print()
    print(format_summary(result.laws, prediction))
    print(f"\nreport: {path}")


def _load(source: Path, overrides: list[str] | None, *selection: Any) -> "Result":
    from flops_fit.result import load_result

    names = ("condition", "max_compute", "exclude_bad_rows")
    return load_result(source, overrides=overrides or (), **dict(zip(names, selection, strict=True)))


def _write_fit(result: "Result") -> None:
    if result.output_dir is not None:
        from flops_fit.store import open_store

        text = json.dumps(result.laws.to_plain(), indent=1, allow_nan=False) + "\n"
        open_store(result.output_dir).write_view("fit.json", text)


def _exit_for(store: "Store") -> None:
    if any(r.status == "failed" for r in store.results()):
        raise typer.Exit(FAILED_RUNS)
