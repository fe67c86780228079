"""The machine and its launcher: what is here, and what `accelerate launch` was asked for."""

import logging
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from flops_fit.distributed import announced_processes
from flops_fit.errors import LaunchError

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_USE_FSDP = "For a model too large for one GPU use FSDP: --use_fsdp --fsdp_version 2."
# What would replace the engine's own step.
REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": ("DeepSpeed", _USE_FSDP),
    "ACCELERATE_USE_MEGATRON_LM": ("Megatron-LM", _USE_FSDP),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (
        "a parallelism config (tensor, context or sequence parallel)",
        f"Use one process per GPU: --multi_gpu. {_USE_FSDP}",
    ),
}
# Options of FSDP without an effect: the engine shards with torch's own `fully_shard`.
IGNORED = {
    "FSDP_OFFLOAD_PARAMS": "--fsdp_offload_params",
    "FSDP_ACTIVATION_CHECKPOINTING": "--fsdp_activation_checkpointing",
}

logger = logging.getLogger(__name__)


def launched_precision(precision: Precision) -> Precision:
    """Takes up what `accelerate launch` was asked for, or contradicts it; reads the environment.

    ``--mixed_precision no`` says nothing: the launcher exports it where the option is not given, too.

    Args:
        precision: ``train.precision``.

    Returns:
        The precision to train in: the launcher's where ``precision`` is "auto".

    Raises:
        LaunchError: If the launcher asks for another precision than ``train.precision``, or for something that the
            engine does not do.
    """
    for variable, (name, instead) in REFUSED.items():
        if _is_set(variable):
            raise LaunchError(f"the launcher asks for {name}, and flops-fit trains with torch alone. {instead}")
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if backend != "no":
        raise LaunchError(
            f"the launcher asks for --dynamo_backend {backend}, and the engine compiles models itself. Launch with "
            "--dynamo_backend no, and choose with train.compile=auto, always or never."
        )
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS") or _launcher_option("gradient_accumulation_steps")
    if steps not in (None, "1", "auto"):
        logger.warning(
            "--gradient_accumulation_steps %s has no effect: the batch is the recipe's (sweep.recipe.batch_tokens), "
            "and how often a step accumulates follows from train.micro_batch_samples.", steps,
        )  # fmt: skip
    for variable, option in IGNORED.items():
        if _is_set(variable):
            logger.warning("%s has no effect: use a smaller train.micro_batch_samples, or more GPUs.", option)
    return _agreed(precision, os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower())


def _agreed(precision: Precision, launched: str) -> Precision:
    if launched == "no":
        return precision
    for known in get_args(Precision)[1:]:
        if launched == known and precision in ("auto", known):
            logger.info("precision: %s, from --mixed_precision", launched)
            return known  # type: ignore[no-any-return]
    if launched not in get_args(Precision):
        raise LaunchError(
            f"the launcher asks for --mixed_precision {launched}, and the engine trains in fp32, bf16 or fp16. Launch "
            "without it, or with --mixed_precision bf16."
        )
    raise LaunchError(
        f"the launcher asks for --mixed_precision {launched}, and train.precision={precision}. Remove one of the two, "
        "or give both the same value."
    )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"


def _launcher_option(name: str) -> str | None:
    """Reads an option off the launcher's command line (on Linux): it exports this one with DeepSpeed only."""
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


def describe_machine() -> dict[str, Any]:
    """Returns what an issue needs to know, as plain values: versions, cores, memory, devices, world."""
    import accelerate
    import numpy
    import transformers

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_total_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "device": "cpu" if device is None else str(device),
        "devices": 0 if device is None else torch.accelerator.device_count(),
        "gpus": _gpus(),
        "world_size": announced_processes(),
    }


def _gpus() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in found]
