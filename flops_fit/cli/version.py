"""The version of this code: of the package, and of its git checkout where it runs from one."""

import subprocess
from pathlib import Path

import flops_fit


def source_commit() -> str | None:
    """Returns the commit of the checkout, with "-dirty" for local changes; None for an installed package."""
    root = Path(flops_fit.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def version_text() -> str:
    """Returns what ``--version`` prints."""
    commit = source_commit()
    return f"flops-fit {flops_fit.__version__}" + (f" (commit {commit})" if commit else "")
