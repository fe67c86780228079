"""Metrics: the content of ``training_metrics.json``, put together from what the stages have found."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import flops_fit
from flops_fit.announced import announced_processes
from flops_fit.pipeline.configuration import identity
from flops_fit.pipeline.stages import STAGES, Context
from flops_fit.pipeline.state import SCHEMA_VERSION

PACKAGES = ("torch", "accelerate", "tokenizers", "safetensors", "numpy", "scipy")
VALIDATION = (
    "val_loss", "train_loss", "val_bits_per_byte", "unigram_bits_per_byte", "per_language", "samples",
    "p95_ms_per_token", "rss_mb", "peak_rss_mb", "torch_import_rss_mb", "checks",
)  # fmt: skip
TRAINING = (
    "num_params", "num_tokens", "epochs", "flops", "steps", "size", "seq_len", "batch_size", "learning_rate",
    "optimizer", "schedule", "warmup_tokens", "max_grad_norm", "weight_decay", "wall_seconds", "history",
)  # fmt: skip


def make_metrics(context: Context) -> dict[str, Any]:
    """Returns them; the last stage, which writes them, stands in the list without its own end."""
    tokenizer, training, fit = (dict(context.facts(name)) for name in ("tokenizer", "train", "fit"))
    corpus, pack, validation = (dict(context.facts(name)) for name in ("corpus", "pack", "validate"))
    prediction = fit.pop("prediction")
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": context.folder.state.run_id,
        "config": used_config(context, training),
        "environment": environment(),
        "stages": [_stage(context, stage.name) for stage in STAGES if context.folder.record(stage.name) is not None],
        "corpus": corpus | {"train_tokens": pack["train_tokens"], "val_tokens": pack["val_tokens"]},
        "tokenizer": tokenizer,
        "fit": fit,
        "training": {key: training[key] for key in TRAINING},
        "prediction": prediction,
        "outcome": outcome(prediction, training["loss"], training["loss_std_error"]),
        "validation": {key: validation[key] for key in VALIDATION},
    }


def outcome(prediction: Mapping[str, Any] | None, loss: float, std_error: float | None) -> dict[str, Any]:
    """The measured loss, and whether the stored interval holds it; None where nothing was predicted."""
    inside = None
    if prediction is not None:
        low, high = prediction["interval"]
        inside = bool(low <= loss <= high)
    return {"loss": loss, "loss_std_error": std_error, "inside_interval": inside}


def used_config(context: Context, training: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, with the values that were used where it leaves them open."""
    config = identity(context.config)
    pipeline = config["pipeline"]
    pipeline["epochs"] = training["epochs"] if pipeline["epochs"] is None else pipeline["epochs"]
    if pipeline["learning_rate"] is None:
        pipeline["learning_rate"] = training["learning_rate"]
    return config


def environment() -> dict[str, Any]:
    """Versions and machine."""
    return {
        "flops_fit": flops_fit.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "processes": announced_processes(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _stage(context: Context, name: str) -> dict[str, Any]:
    record = context.folder.record(name)
    assert record is not None
    skipped = name in context.unchanged or bool(record.facts.get("left_out"))
    return {
        "name": name,
        "seconds": record.seconds,
        "input_hash": record.input_hash,
        "outputs": dict(record.outputs),
        "skipped": skipped,
    }
