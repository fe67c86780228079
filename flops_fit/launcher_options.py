"""A launcher's options that Accelerate would follow and flops-fit does not: refused, or contradicted in words."""

from collections.abc import Mapping

from flops_fit.errors import LaunchError

# Engines of their own, which hold the model and the optimizer.
REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism plug-in",
}
# Option of the launcher, its values that ask for nothing, and what decides here.
CONTRADICTED = {
    "ACCELERATE_MIXED_PRECISION": ("--mixed_precision", ("no",), "train.precision decides"),
    "ACCELERATE_DYNAMO_BACKEND": ("--dynamo_backend", ("no",), "train.compile decides"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (
        "--gradient_accumulation_steps",
        ("1", "auto"),
        "sweep.batch_tokens sets the step and train.micro_batch_samples its pieces",
    ),
}


def check_launcher_options(environment: Mapping[str, str]) -> list[str]:
    """Returns a line for each option that is not followed.

    Raises:
        LaunchError: If the launcher asks for another engine.
    """
    for name, engine in REFUSED.items():
        if environment.get(name, "false").lower() == "true":
            raise LaunchError(
                f"the launcher asks for {engine} ({name}=true), expected data-parallel processes or FSDP: flops-fit "
                "shards large models with FSDP2 (`--use_fsdp`, launch/accelerate/fsdp.yaml)."
            )
    return [
        f"the launcher's {option} {value} is not followed: {decision}."
        for name, (option, nothing, decision) in CONTRADICTED.items()
        if (value := environment.get(name, nothing[0])).lower() not in nothing
    ]
