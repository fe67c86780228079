"""Options of `accelerate launch`: each is taken up or contradicted in words."""

import logging
import os
from typing import Literal, get_args

from flops_fit.announced import launcher_option
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
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS") or launcher_option("gradient_accumulation_steps")
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
