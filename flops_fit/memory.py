"""Memory of this machine and of this process, bytes: what is free, what is resident and its peak."""

import os
import sys
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")


def free_host_bytes() -> int:
    """Returns the memory that a process could still have: half of all there is where the kernel does not tell.

    Page cache counts as free, since the kernel gives it up.
    """
    available = _kilobytes(MEMINFO).get("MemAvailable")
    return available * 1024 if available else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def resident_bytes() -> int:
    """Returns the resident memory of this process now, its peak where the kernel does not tell."""
    resident = _kilobytes(STATUS).get("VmRSS")
    return resident * 1024 if resident else peak_resident_bytes()


def peak_resident_bytes() -> int:
    """Returns the peak resident memory of this process."""
    # Not ru_maxrss where there is a choice: a child begins with its parent's, whatever it needs itself.
    peak = _kilobytes(STATUS).get("VmHWM")
    if peak:
        return peak * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kilobytes(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    lines = (line.split(":", 1) for line in path.read_text().splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) for name, value in lines}
