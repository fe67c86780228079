"""Verbs of studies: `flops-fit study simulate|plan|run|status|compare`."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from flops_fit.cli.app import AsJson, ConfigDir, Overrides, app
from flops_fit.console import print_definitions, print_json, print_message, print_table
from flops_fit.quantities import count_of, format_count, format_flops, format_seconds

GROUP = "study"
STUDY_VERBS = ("simulate", "plan", "run", "status", "compare")
FAILED_JOBS = 3
EXAMPLES = (
    ("flops-fit study simulate study=dose_overlap_quick --out data", "Make the data of nine conditions."),
    (
        "flops-fit study run study=dose_overlap_quick --phase-c-root data/phase_c --phase-d-root data/phase_d "
        "--artifact-root A",
        "Train each; running it again trains what is missing.",
    ),
)

Dose = Annotated[list[float] | None, typer.Option(help="Only this dose; may be given several times.")]
View = Annotated[list[str] | None, typer.Option(help="Only this view; may be given several times.")]
Gridsize = Annotated[list[int] | None, typer.Option(help="Only this grid size; may be given several times.")]
ArtifactRoot = Annotated[Path, typer.Argument(help="The --artifact-root of `flops-fit study run`.")]


class StudyCommand(TyperCommand):
    """A verb that composes a study; its help ends with presets, runners and two examples."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Adds them."""
        from flops_fit.presets import STUDY_GROUPS, preset_names
        from flops_fit.studies import RUNNERS

        super().format_help(ctx, formatter)
        presets = preset_names(groups=STUDY_GROUPS)
        print_definitions("Presets (group=name)", [(group, ", ".join(names)) for group, names in presets.items()])
        own = ("package.module:function", "your own, called with config, job and log_path; its code is run")
        print_definitions("Runners (--runner)", [*((name, runner.about) for name, runner in RUNNERS.items()), own])
        print_definitions("Examples", EXAMPLES)


study_app = typer.Typer(
    help="A matrix of conditions, one training or one scaling law for each, and whether two conditions differ.",
    no_args_is_help=True,
)
app.add_typer(study_app, name=GROUP)


@study_app.command(cls=StudyCommand)
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for phase_c and phase_d, the two data roots of `run`.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
    config_dir: ConfigDir = None,
) -> None:
    """Make the data of every condition by the study's own simulation."""
    from flops_fit.studies.configuration import load_study
    from flops_fit.studies.simulate import ROOTS, simulate_study

    study = load_study(overrides or (), config_dir=config_dir)
    with contextlib.redirect_stdout(sys.stderr):  # What a simulation prints is no result.
        files = simulate_study(study, out)
    roots = {option: str(out / folder) for option, folder in ROOTS.items()}
    if as_json:
        print_json({"study": study.name, "files": [str(path) for path in files], **roots})
        return
    print(f"{count_of(len(files), 'file')} for {study.name} in {out}")
    options = " ".join(f"--{name.replace('_', '-')} {folder}" for name, folder in roots.items())
    print_message(f"Next: flops-fit study run study={study.name} {options} --artifact-root DIR")


@study_app.command(cls=StudyCommand)
def plan(
    overrides: Overrides = None,
    phase_c_root: Annotated[Path, typer.Option(help="Folder of the baseline data, where they are there.")] = Path(
        "phase_c"
    ),
    phase_d_root: Annotated[Path, typer.Option(help="Folder of the views' data, where they are there.")] = Path(
        "phase_d"
    ),
    dose: Dose = None,
    view: View = None,
    gridsize: Gridsize = None,
    as_json: AsJson = False,
    config_dir: ConfigDir = None,
) -> None:
    """Show the jobs: size, tokens, and with their data FLOPs and time here. Writes nothing."""
    from flops_fit.studies.configuration import load_study
    from flops_fit.studies.matrix import build_training_jobs, select_jobs
    from flops_fit.studies.plan import plan_jobs, sweep_flops

    study = load_study(overrides or (), config_dir=config_dir)
    jobs = build_training_jobs(phase_c_root, phase_d_root, "A", study=study)
    left = select_jobs(jobs, _filters(dose, view, gridsize), _notifier(as_json))
    with contextlib.redirect_stdout(sys.stderr):
        planned = plan_jobs(left)
    budgets, flops = len(study.sweep.compute_budgets), sweep_flops(left[0])
    if as_json:
        rows = [
            {
                "job_id": p.job.job_id, "size": p.size, "num_samples": p.num_samples,
                "num_params": p.num_params, "num_tokens": p.num_tokens,
                "flops": p.flops, "epochs": p.epochs, "seconds": p.seconds, "has_data": p.has_data,
            }
            for p in planned
        ]  # fmt: skip
        sweep = {"budgets": budgets, "sizes_per_budget": study.sweep.num_sizes_per_budget, "flops_at_most": flops}
        print_json({"study": study.name, "jobs": rows, "sweep_per_job": sweep})
        return
    print_table(
        ("job", "size", "samples", "N", "D", "epochs", "FLOPs", "time here", "data"),
        [
            (
                p.job.job_id, str(p.size), f"{p.num_samples:,}", _known(p.num_params, format_count),
                _known(p.num_tokens, format_count),
                _known(p.epochs, "{:.3g}".format), _known(p.flops, format_flops), _known(p.seconds, format_seconds),
                "there" if p.has_data else "missing",
            )
            for p in planned
        ],
    )  # fmt: skip
    sizes = study.sweep.num_sizes_per_budget
    print(f"With --runner sweep: {budgets} budgets of {sizes} sizes, at most {format_flops(flops)} FLOPs for each job.")


@study_app.command(cls=StudyCommand)
def run(
    phase_c_root: Annotated[Path, typer.Option(help="Folder of the baseline data.")],
    phase_d_root: Annotated[Path, typer.Option(help="Folder of the views' data.")],
    artifact_root: Annotated[Path, typer.Option(help="Folder for everything that is made.")],
    overrides: Overrides = None,
    dose: Dose = None,
    view: View = None,
    gridsize: Gridsize = None,
    runner: Annotated[str, typer.Option(help="train, sweep, stub, or your package.module:function.")] = "train",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the jobs, in the manifest too.")] = False,
    job_index: Annotated[
        int | None, typer.Option(help="Run only the job at this position, from 0, of those that the filters leave.")
    ] = None,
    as_json: AsJson = False,
    config_dir: ConfigDir = None,
) -> None:
    """Run the jobs and keep one manifest of them. Running it again runs what is missing or has failed."""
    import json

    from flops_fit.studies.configuration import load_study
    from flops_fit.studies.run import StudyRequest, run_study

    request = StudyRequest(
        study=load_study(overrides or (), config_dir=config_dir),
        phase_c_root=phase_c_root,
        phase_d_root=phase_d_root,
        artifact_root=artifact_root,
        filters=_filters(dose, view, gridsize),
        runner=runner,
        dry_run=dry_run,
        job_index=job_index,
    )
    outcome = run_study(request, _notifier(as_json))
    if as_json:
        manifest = json.loads(outcome.manifest.read_text(encoding="utf-8"))
        print_json({**manifest, "manifest": str(outcome.manifest), "failed": [e["job_id"] for e in outcome.failed]})
    if outcome.failed:
        again = "Running the same command again runs the failed ones again."
        print_message(f"{count_of(len(outcome.failed), 'job')} failed; each job's log_path has the traceback. {again}")
        raise typer.Exit(FAILED_JOBS)


@study_app.command()
def status(artifact_root: ArtifactRoot, as_json: AsJson = False) -> None:
    """Show from the manifest what is completed, failed and why, pending, or only a dry run."""
    from flops_fit.studies.status import study_status

    found = study_status(artifact_root)
    if as_json:
        print_json(found)
        return
    counts = ", ".join(f"{number} {name}" for name, number in found["counts"].items() if number)
    print(f"{found['manifest']}: study {found['study']}, {counts} of {found['total']} jobs.")
    print_table(
        ("job", "status", ""), [(j["job_id"], j["status"], j["summary"]) for j in found["jobs"]], justify="left"
    )


@study_app.command()
def compare(artifact_root: ArtifactRoot, as_json: AsJson = False) -> None:
    """Say whether conditions differ: loss at the largest common compute, and exponent, by their sweeps' laws."""
    from flops_fit.studies.compare import compare_study, describe_comparison, plain_comparison

    comparison = compare_study(artifact_root)
    if as_json:
        print_json(plain_comparison(comparison))
    else:
        print("\n".join(describe_comparison(comparison)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `flops-fit study` in this process and returns its exit code.

    Args:
        argv: What follows `flops-fit study`, by default of this process's command line. Where it names no verb, it is
            what `flops-fit study run` takes.
    """
    from flops_fit import cli

    arguments = [str(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    verb = [] if arguments[:1] and arguments[0] in STUDY_VERBS else ["run"]
    try:
        cli.main([GROUP, *verb, *arguments])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _filters(
    dose: Sequence[float] | None, view: Sequence[str] | None, gridsize: Sequence[int] | None
) -> dict[str, Sequence[Any]]:
    return {"dose": dose or (), "view": view or (), "gridsize": gridsize or ()}


def _notifier(as_json: bool) -> Callable[[str], None]:
    """Lines of a run belong to its output, unless that is one JSON object."""
    return print_message if as_json else lambda line: print(line, flush=True)


def _known(value: Any, write: Callable[[Any], str]) -> str:
    return "-" if value is None else write(value)
