"""Identity of a worker, and whether another one is known to be gone without waiting for its lease."""

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that claims runs, the main one of its ranks."""

    worker_id: str
    host: str
    machine: str | None
    """This boot of the kernel and its process namespace: only within one do process ids mean anything; None where
    unknown."""
    pid: int
    started: int | None
    """Start of the process in clock ticks since boot, since process ids are used again."""
    slurm_job: str | None = None
    """SLURM's job, of an array with its task."""
    slurm_restarts: int = 0
    """How often SLURM has requeued the job."""


UNKNOWN = Worker(worker_id="", host="unknown", machine=None, pid=0, started=None)
"""Of a claim that cannot be read."""


def this_worker() -> Worker:
    """Describes this process; reads the environment."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    slurm_job = f"{job}_{task}" if job and task else os.environ.get("SLURM_JOB_ID")
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    return Worker(
        worker_id=uuid.uuid4().hex,
        host=socket.gethostname(),
        machine=this_machine(),
        pid=os.getpid(),
        started=_start_of(os.getpid()),
        slurm_job=slurm_job,
        slurm_restarts=int(restarts) if restarts.isdigit() else 0,
    )


def this_machine() -> str | None:
    """Identifies what process ids are valid in: this boot of the kernel, and the process namespace."""
    try:
        return f"{BOOT_ID.read_text().strip()} {PID_NAMESPACE.readlink()}"
    except OSError:
        return None


def is_gone(other: Worker, me: Worker) -> bool:
    """Whether ``other`` certainly runs no more: its process is gone here, or SLURM has started its job again."""
    if other.slurm_job is not None and other.slurm_job == me.slurm_job and other.slurm_restarts < me.slurm_restarts:
        return True
    if other.machine is None or other.machine != me.machine:
        return False
    return not _is_running(other)


def is_same_process(other: Worker, me: Worker) -> bool:
    """Whether both are one process, such as a notebook in which training was called twice."""
    return other.machine is not None and (other.machine, other.pid, other.started) == (me.machine, me.pid, me.started)


def _is_running(worker: Worker) -> bool:
    started = _start_of(worker.pid)
    return started is not None and (worker.started is None or started == worker.started)


def _start_of(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if there is none, or only its exit code is left."""
    try:
        # The name in parentheses may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
