"""Announcements of launchers: what the environment and the launcher's command line say, read without torch."""

import os
from collections.abc import Sequence
from pathlib import Path

from flops_fit.errors import LaunchError

# Where MPI says what torchrun says in WORLD_SIZE; Accelerate reads these too.
WORLD_VARIABLES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
WORKING_COMMANDS = (
    "Start with `flops-fit train DIR --launcher torchrun --processes N`, with `torchrun --nproc_per_node N "
    "-m flops_fit ...`, or with `accelerate launch --multi_gpu --num_processes N -m flops_fit ...` (also on CPU, "
    "without --cpu)."
)


def announced_processes() -> int:
    """Returns how many processes a launcher has announced in WORLD_SIZE; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_silent_launchers() -> None:
    """Refuses a process that was meant to be one of several and was not told so.

    Raises:
        LaunchError: If `accelerate launch` was asked for several processes and started this one alone, or if `srun`
            started several, each of which takes itself for the only one.
    """
    if any(name in os.environ for name in WORLD_VARIABLES):
        return
    # `accelerate launch` sets an address where it was asked for several processes, and these two variables always.
    if "MASTER_ADDR" in os.environ and {"ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION"} <= os.environ.keys():
        asked = launcher_option("num_processes") or "several"
        raise LaunchError(
            f"`accelerate launch` was asked for {asked} processes and has started one: with --cpu, or without a GPU "
            f"and without --multi_gpu, it starts no more. {WORKING_COMMANDS}"
        )
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks != "1":
        raise LaunchError(
            f"srun started {tasks} tasks (SLURM_STEP_NUM_TASKS) and each takes itself for the only one. For runs that "
            "each need several processes: `flops-fit train DIR --launcher slurm --nodes M --processes N`. For workers "
            "that each train their own runs: `flops-fit train DIR --launcher slurm --array N`. For one worker: "
            "`srun --ntasks=1 flops-fit train DIR`."
        )


def launcher_option(name: str) -> str | None:
    """Reads an option off the command line of `accelerate launch` (on Linux); None without it."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except OSError:
        return None
    is_launcher = any(word.endswith("/accelerate") or word.startswith("accelerate.") for word in words)
    return option_of(words, name) if is_launcher else None


def option_of(words: Sequence[str], name: str) -> str | None:
    """Returns the value of ``--name VALUE`` or ``--name=VALUE``, also written with hyphens; None without it."""
    for i, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key.startswith("--") and key[2:].replace("-", "_") == name:
            return value if equals else next(iter(words[i + 1 : i + 2]), None)
    return None
