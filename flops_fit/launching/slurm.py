"""SLURM jobs: the shipped batch scripts with a user's options filled in, and the sbatch command that submits them."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flops_fit.errors import LaunchError
from flops_fit.files import replace_file
from flops_fit.launching.commands import packaged_launch
from flops_fit.launching.options import LaunchOptions

FOLDER = "slurm"
# One that trains and one that prepares data.
CORES_PER_PROCESS = 2
_PYTHON_LINE = "PYTHON=${PYTHON:-python}"

Settings = Mapping[str, str | int | None]


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """A batch script, where it is written, and the command that submits it."""

    path: Path
    text: str
    argv: tuple[str, ...]


def batch_job(options: LaunchOptions, *, python: str = sys.executable) -> BatchJob:
    """Returns the shipped ``array.sbatch`` or ``multi_node.sbatch`` with options filled in, and its sbatch command.

    Args:
        options: With the launcher slurm.
        python: The interpreter that the job starts.
    """
    name = "array.sbatch" if options.is_array else "multi_node.sbatch"
    text = (packaged_launch() / "slurm" / name).read_text()
    text = _filled(text, _array_settings(options) if options.is_array else _node_settings(options))
    assert _PYTHON_LINE in text
    text = text.replace(_PYTHON_LINE, f"PYTHON={shlex.quote(python)}")
    folder = options.directory / FOLDER
    # In the command, where a path needs no quotes; SLURM reads %% as one %.
    log = str(folder).replace("%", "%%") + ("/%A_%a.out" if options.is_array else "/%j.out")
    words = ["sbatch", "--parsable", "--output", log, folder / name, options.directory]
    if options.processes is not None:  # The script starts as many as there are GPUs, and the last word counts.
        words += ["--processes", options.processes]
    if options.sharded:
        words.append("--sharded")
    return BatchJob(path=folder / name, text=text, argv=tuple(map(str, [*words, *options.train_options])))


def submit(job: BatchJob) -> str:
    """Writes the script into the sweep's folder, submits it, and returns the number of the job.

    Raises:
        LaunchError: If there is no sbatch here, or it refuses.
        StoreError: If the script cannot be written.
    """
    if shutil.which("sbatch") is None:
        raise LaunchError(
            "--launcher slurm: sbatch is not on PATH, so this is no machine of a SLURM cluster. Run the command on a "
            "login node of one, or add --dry-run to see what it submits."
        )
    replace_file(job.path, job.text.encode())
    done = subprocess.run(job.argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LaunchError(
            f"sbatch refused the job: {done.stderr.strip()}. Correct the option it names, or set what your site asks "
            "for in sbatch's own variables (SBATCH_ACCOUNT, SBATCH_QOS, SBATCH_CONSTRAINT)."
        )
    # "12" or, with several clusters, "12;name".
    return done.stdout.strip().partition(";")[0]


def _array_settings(options: LaunchOptions) -> Settings:
    return {
        **_common_settings(options),
        "array": None if options.array is None else f"0-{options.array - 1}",
        "gpus-per-node": options.gpus,
    }


def _node_settings(options: LaunchOptions) -> Settings:
    processes = options.processes
    return {
        **_common_settings(options),
        "nodes": options.nodes or 1,
        "gpus-per-node": processes if options.gpus is None else options.gpus,
        "cpus-per-task": None if processes is None else CORES_PER_PROCESS * processes,
    }


def _common_settings(options: LaunchOptions) -> Settings:
    return {"time": options.time, "partition": options.partition}


def _filled(text: str, settings: Settings) -> str:
    """Sets ``#SBATCH --name=value`` lines: None leaves what is there, and 0 asks for nothing, so the line goes."""
    lines = text.split("\n")
    for name, value in settings.items():
        start = f"#SBATCH --{name}="
        if value is None:
            continue
        found = [i for i, line in enumerate(lines) if line.startswith(start)]
        place = found[0] if found else 1 + max(i for i, line in enumerate(lines) if line.startswith("#SBATCH "))
        lines[place : place + len(found)] = [f"{start}{value}"] if value else []
    return "\n".join(lines)
