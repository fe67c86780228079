"""The manifest of a study, a view of facts: one file per job and input, written by the one process that ran the job.

    A/jobs/<job_id>/results/<input>.json    how a job ended on one input: data, settings and runner
    A/training_manifest.json                the command's jobs and earlier ones that it did not select, rebuilt after
                                            each job

Any number of processes may run jobs of one study. Each rebuilds the manifest after its own fact, and again until no
fact has come in between, so the last one to end leaves none out.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flops_fit.errors import InputError
from flops_fit.files import file_hash, replace_file
from flops_fit.schema import canonical_json, to_plain
from flops_fit.studies.matrix import FILTERS, JOBS, StudyJob
from flops_fit.studies.runners import Runner

NAME = "training_manifest.json"
RESULTS = "results"
Entry = dict[str, Any]
"""A job with its result, as in ``jobs`` of the manifest."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the command that writes a manifest was asked for."""

    study: str
    study_jobs: tuple[str, ...]
    """Ids of all jobs of the study, in its order."""
    phase_c_root: str
    phase_d_root: str
    artifact_root: str
    filters: Mapping[str, Any]
    """Of this command, by name: None, a value, or a list of several."""
    dry_run: bool
    runner: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    """``input_sha256`` of the jobs that this command selects, by id."""


def input_hash(job: StudyJob, runner: Runner) -> str:
    """SHA-256 of what a job's result follows from: both data files, condition, runner, and the settings it reads."""
    settings = to_plain(job.study)
    content = {
        "data": [file_hash(job.train_data_path), file_hash(job.test_data_path)],
        "condition": [job.dose, job.view, job.gridsize],
        "runner": runner.function,
        "settings": {key: settings[key] for key in runner.reads},
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def entry_of(
    job: StudyJob, input_sha256: str, result: Mapping[str, Any], runner: str, *, seconds: float, cpu_seconds: float
) -> Entry:
    """A job with its result, as the manifest holds it; seconds are those of this process."""
    return {
        "job_id": job.job_id,
        "dose": job.dose,
        "view": job.view,
        "gridsize": job.gridsize,
        "train_data_path": str(job.train_data_path),
        "test_data_path": str(job.test_data_path),
        "log_path": str(job.log_path),
        "artifact_dir": str(job.artifact_dir),
        "input_sha256": input_sha256,
        "runner": runner,
        "ended": utc_now(),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "result": dict(result),
    }


def publish_entry(job: StudyJob, entry: Entry) -> None:
    """Writes how a job ended, in one step; an earlier attempt on the same input is replaced."""
    replace_file(job.artifact_dir / RESULTS / f"{entry['input_sha256'][:16]}.json", _bytes(entry))


def read_entries(artifact_root: Path) -> list[Entry]:
    """Reads how jobs ended, on any input.

    Raises:
        InputError: If a file cannot be read as such; it is left as it is.
    """
    return [_parsed(path, data) for path, data in _read_facts(artifact_root).items()]


def write_manifest(header: Header, dry: Sequence[Entry] = (), overlay: Mapping[str, Entry] | None = None) -> Path:
    """Rebuilds the manifest from the facts, until none has come in between.

    Args:
        header: Of the command.
        dry: Entries of a dry run, which leaves no facts.
        overlay: Entries by job id that say more than their facts.

    Returns:
        Its path.
    """
    root = Path(header.artifact_root)
    path = root / NAME
    while True:
        facts = _read_facts(root)
        entries = newest([_parsed(*fact) for fact in facts.items()], header.inputs) | {e["job_id"]: e for e in dry}
        for job_id, richer in (overlay or {}).items():
            if entries.get(job_id, {}).get("input_sha256") == richer["input_sha256"]:
                entries[job_id] = richer
        order = {job_id: i for i, job_id in enumerate(header.study_jobs)}
        jobs = sorted(entries.values(), key=lambda e: (order.get(e["job_id"], len(order)), e["job_id"]))
        asked = {name: value for name, value in to_plain(header).items() if name != "inputs"}
        manifest = {"timestamp": utc_now(), **asked, "jobs": jobs}
        replace_file(path, _bytes(manifest))
        if _read_facts(root) == facts:
            return path


def newest(entries: Sequence[Entry], inputs: Mapping[str, str]) -> dict[str, Entry]:
    """One entry for each job: on the input given for it, else the one that ended last."""
    found: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda e: str(e["ended"])):
        job_id = entry["job_id"]
        if job_id in inputs and entry["input_sha256"] != inputs[job_id]:
            continue
        found[job_id] = entry
    return found


def read_manifest(artifact_root: Path) -> dict[str, Any]:
    """Reads a manifest; what is not in it, nobody asked for.

    Raises:
        InputError: If there is none, or the file is none; it is left as it is.
    """
    path = artifact_root / NAME
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Give the --artifact-root of `flops-fit study run`, which writes it, or run that."
        )
    manifest: dict[str, Any] = _parsed(path, path.read_bytes(), what="a study's manifest")
    missing = {"study_jobs", "jobs", "filters", "dry_run", "timestamp"} - set(manifest)
    if missing or not all(isinstance(e, dict) and {"job_id", "result"} <= set(e) for e in manifest["jobs"]):
        raise InputError(f"{path}: got JSON that is no study's manifest. {_REMEDY}")
    return manifest


def check_manifest(artifact_root: Path) -> None:
    """Refuses to replace a file that is no manifest, and facts that cannot be read, before anything runs."""
    if (artifact_root / NAME).exists():
        read_manifest(artifact_root)
    read_entries(artifact_root)


def plain_filters(filters: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Filters as the manifest holds them: None, a value, or a list of several."""
    values = {name: list(filters.get(name, ())) for name in FILTERS}
    return {name: (given[0] if len(given) == 1 else given) if given else None for name, given in values.items()}


def utc_now() -> str:
    """The time, in UTC, ending in Z."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_REMEDY = "Remove it, and run `flops-fit study run` again: finished jobs are kept beside it, in jobs/."


def _read_facts(root: Path) -> dict[Path, bytes]:
    found = {}
    for path in sorted((root / JOBS).glob(f"*/{RESULTS}/*.json")):
        if not path.name.startswith("."):
            found[path] = path.read_bytes()
    return found


def _parsed(path: Path, data: bytes, what: str = "a job's result") -> Any:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise InputError(f"{path}: got a file that is not JSON ({error}), expected {what}. {_REMEDY}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: got {type(value).__name__}, expected {what}. {_REMEDY}")
    return value


def _bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()
