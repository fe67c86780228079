"""Check: disk, Python, packages, a writable folder, and whether the batch fits into memory."""

import importlib.util
import logging
import shutil
import sys
import uuid
from pathlib import Path

from flops_fit.errors import ConfigError
from flops_fit.memory import free_host_bytes
from flops_fit.pipeline.settings import PipelineConfig
from flops_fit.pipeline.stages import Context, Outcome
from flops_fit.quantities import format_bytes

PYTHON = (3, 11)
PACKAGES = ("torch", "accelerate", "numpy", "scipy", "safetensors", "tokenizers", "jinja2", "matplotlib")
LOGIT_COPIES = 4
"""Logits, their gradient, probabilities and a copy: what a step holds of (batch, sequence, vocabulary) at once."""

logger = logging.getLogger(__name__)


def run(context: Context) -> Outcome:
    """Refuses what would fail later; warns of memory."""
    config = context.config
    check_python()
    check_writable(context.root)
    free = check_disk(context.root, config.min_free_gb)
    warning = memory_warning(config, free_host_bytes())
    if warning:
        logger.warning("%s", warning)
    facts = {"free_disk_gb": round(free / 1e9, 3), "memory_warning": warning}
    return Outcome(facts=facts, summary=f"{format_bytes(free)} free, Python {sys.version.split()[0]}")


def check_python() -> None:
    """Refuses an old Python, and missing packages by name."""
    if sys.version_info < PYTHON:
        raise ConfigError(f"got Python {sys.version.split()[0]}, expected 3.11 or newer. Make an environment with it.")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"packages: got none named {', '.join(missing)}, expected all that flops-fit depends on. "
            "Try `python -m pip install flops-fit`."
        )


def check_writable(root: Path) -> None:
    """Makes the folder, and refuses one where no file can be made."""
    probe = root / f".writable.{uuid.uuid4().hex}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"output_dir: got {root}, where no file can be written ({error.strerror}), expected a writable folder. "
            "Try --output-dir with another one."
        ) from error


def check_disk(root: Path, min_free_gb: float) -> int:
    """Returns the free bytes; refuses too few."""
    free = shutil.disk_usage(root).free
    if free < min_free_gb * 1e9:
        raise ConfigError(
            f"disk: got {free / 1e9:.2f} GB free at {root}, expected {min_free_gb:g} GB. "
            f"Free some space, or try a lower --min-free-gb (default {PipelineConfig.min_free_gb:g})."
        )
    return free


def memory_warning(config: PipelineConfig, free: int) -> str | None:
    """Returns a warning where one step's logits alone would take more than half of the free memory."""
    settings = config.pipeline
    needed = 4 * LOGIT_COPIES * settings.batch_size * settings.max_seq_length * settings.vocab_size
    if needed < free / 2:
        return None
    return (
        f"memory: the logits of {settings.batch_size} sequences take about {format_bytes(needed)} of "
        f"{format_bytes(free)} free. Try a lower --batch-size, --max-seq-length or --vocab-size."
    )
