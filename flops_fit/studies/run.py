"""Run of a study: its jobs one after another, each recorded as it ends; what is completed is not run again."""

import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flops_fit.errors import ConfigError, FlopsFitError, LaunchError, Preempted, RankLost, StoreError
from flops_fit.quantities import format_seconds
from flops_fit.studies.jobs import RunJob, run_training_job
from flops_fit.studies.manifest import (
    Entry,
    Header,
    check_manifest,
    entry_of,
    input_hash,
    newest,
    plain_filters,
    publish_entry,
    read_entries,
    write_manifest,
)
from flops_fit.studies.matrix import StudyJob, build_training_jobs, check_data_files, select_jobs
from flops_fit.studies.results import summary_of
from flops_fit.studies.runners import find_runner, load_runner
from flops_fit.studies.settings import StudySpec

FATAL = (StoreError, RankLost, Preempted)
"""They stop the study: every further job would meet them too, or a signal asked to stop."""


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What `flops-fit study run` was asked for."""

    study: StudySpec
    phase_c_root: Path
    phase_d_root: Path
    artifact_root: Path
    filters: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values to keep by "dose", "view" and "gridsize"."""
    runner: str = "train"
    dry_run: bool = False
    job_index: int | None = None
    """Position of the only job to run, among those that the filters leave; for job arrays."""


@dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """How the jobs of one command ended."""

    manifest: Path
    entries: tuple[Entry, ...]
    """Of the selected jobs, in order."""

    @property
    def failed(self) -> tuple[Entry, ...]:
        """Those that failed."""
        return tuple(entry for entry in self.entries if entry["result"]["status"] == "failed")


def run_study(request: StudyRequest, notify: Callable[[str], None]) -> StudyOutcome:
    """Runs the selected jobs of a study; one that raises is recorded as failed, and the others run.

    Args:
        request: The study and what to run of it.
        notify: Shows a line of progress.

    Raises:
        ConfigError: If no job is left, or a function named in the settings cannot be imported; nothing is written then.
        InputError: If a data file is missing, or a file in the way is no manifest; nothing is written then.
        StoreError: If the disk refuses.
    """
    every = build_training_jobs(
        request.phase_c_root, request.phase_d_root, request.artifact_root, study=request.study
    )  # fmt: skip
    jobs = _at_index(select_jobs(every, request.filters, notify), request.job_index, notify)
    check_data_files(jobs)
    if request.artifact_root.exists() and not request.artifact_root.is_dir():
        raise ConfigError(f"--artifact-root {request.artifact_root}: is a file, expected a folder. Give another name.")
    check_manifest(request.artifact_root)
    runner = find_runner(request.runner)
    function = None if request.dry_run else _prepare(request)
    inputs = {job.job_id: input_hash(job, runner) for job in jobs}
    header = Header(
        study=request.study.name, study_jobs=tuple(job.job_id for job in every),
        phase_c_root=str(request.phase_c_root), phase_d_root=str(request.phase_d_root),
        artifact_root=str(request.artifact_root), filters=plain_filters(request.filters), dry_run=request.dry_run,
        runner=request.runner, inputs=inputs,
    )  # fmt: skip
    entries: list[Entry] = []
    for position, job in enumerate(jobs, start=1):
        line = f"[{position}/{len(jobs)}] {job.title}"
        entry = _completed(job, inputs[job.job_id])
        if entry is not None:
            notify(f"{line}: completed before, not run again")
        else:
            notify(line)
            wall, cpu = time.perf_counter(), time.process_time()
            result = run_training_job(job, run_nothing, dry_run=True) if function is None else _run(job, function)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            entry = entry_of(job, inputs[job.job_id], result, request.runner, seconds=wall, cpu_seconds=cpu)
            notify(f"  {': '.join(filter(None, (result['status'], summary_of(result))))}")
            if function is not None:
                notify(f"  in {format_seconds(wall)}, {format_seconds(cpu)} of CPU time")
                publish_entry(job, entry)
        entries.append(entry)
        path = write_manifest(header, dry=[e for e in entries if e["result"]["status"] == "dry_run"])
    if any("law" in entry["result"] for entry in read_entries(request.artifact_root)):
        from flops_fit.studies.compare import share_compute

        path = write_manifest(header, overlay=share_compute(request.artifact_root, inputs))
    notify(f"manifest: {path}")
    return StudyOutcome(manifest=path, entries=tuple(entries))


def run_nothing(**_: Any) -> Mapping[str, Any]:
    """The runner of a dry run, which is never called."""
    raise AssertionError("a dry run calls no runner")


def _at_index(jobs: list[StudyJob], index: int | None, notify: Callable[[str], None]) -> list[StudyJob]:
    if index is None:
        return jobs
    if not 0 <= index < len(jobs):
        raise ConfigError(
            f"--job-index: got {index}, expected 0 to {len(jobs) - 1}, the positions of the {len(jobs)} jobs that the "
            f"filters leave. For a job array: --array=0-{len(jobs) - 1}."
        )
    notify(f"Selected job-index={index}: 1 jobs remain")
    return [jobs[index]]


def _prepare(request: StudyRequest) -> RunJob:
    """Imports what the jobs will call, so that a wrong name fails before anything runs."""
    from flops_fit.announced import announced_processes
    from flops_fit.studies.condition import engine_settings

    if announced_processes() > 1:
        raise LaunchError(
            f"got {announced_processes()} processes from a launcher, expected one: a study runs one job per process. "
            "Start `flops-fit study run` plainly, or one process per job: launch/slurm/study_array.sbatch."
        )
    engine_settings(request.study)
    return load_runner(find_runner(request.runner), request.study)


def _completed(job: StudyJob, input_sha256: str) -> Entry | None:
    """The completed result of a job on this input, if there is one."""
    entries = [e for e in read_entries(job.artifact_root) if e["job_id"] == job.job_id]
    entry = newest(entries, {job.job_id: input_sha256}).get(job.job_id)
    return entry if entry is not None and entry["result"]["status"] == "completed" else None


def _run(job: StudyJob, function: RunJob) -> dict[str, Any]:
    with _logged_to(job.log_path), contextlib.redirect_stdout(sys.stderr):  # What a model prints is no result.
        try:
            return run_training_job(job, function)
        except FATAL:
            raise
        except Exception as error:
            with job.log_path.open("a", encoding="utf-8") as log:
                log.write("".join(traceback.format_exception(error)))
            reason = str(error) if isinstance(error, FlopsFitError) else f"{type(error).__name__}: {error}"
            return {"status": "failed", "reason": reason}


@contextlib.contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Within this, what the package logs also goes to a job's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
