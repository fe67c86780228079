"""Configuration of a pipeline: composed like that of a sweep, with the command's flags on top."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flops_fit.config import compose_plain
from flops_fit.errors import ConfigError
from flops_fit.pipeline.settings import FLAGS, PipelineConfig
from flops_fit.presets import PIPELINE_GROUPS
from flops_fit.schema import build, to_plain

ROOT = "pipeline_run"


def load_pipeline_config(
    overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None, *, config_dir: Path | None = None
) -> PipelineConfig:
    """Composes the configuration.

    Args:
        overrides: ``group=name`` and ``dotted.key=value``, as on the command line.
        flags: Values by flag name (`settings.FLAGS`); None and False leave the configuration as it is.
        config_dir: A folder of the user's own groups.

    Raises:
        ConfigError: If a group, a key or a value is unknown or out of range.
    """
    unset: tuple[Any, ...] = (None, [])
    given = {name: v for name, v in (flags or {}).items() if v not in unset and v is not False}
    overrides = list(overrides)
    if {"corpus_path", "corpus_url"} & set(given) and not any(o.startswith("corpus=") for o in overrides):
        overrides.append("corpus=files")
    values = compose_plain(overrides, root=ROOT, groups=PIPELINE_GROUPS, config_dir=config_dir)
    for name, value in given.items():
        *parents, key = FLAGS[name].split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        target[key] = value
    if not isinstance(values.get("sweep"), dict):
        raise ConfigError("pipeline: got a preset without a sweep. Take default.yaml as a pattern.")
    return build(PipelineConfig, values)


def identity(config: PipelineConfig) -> dict[str, Any]:
    """What makes two configurations the same run: all but where it lies and how the command goes about it."""
    plain: dict[str, Any] = to_plain(config)
    for key in ("output_dir", "min_free_gb", "skip_corpus", "skip_tokenizer", "resume"):
        del plain[key]
    return plain


def selected(config: PipelineConfig, keys: Sequence[str]) -> dict[str, Any]:
    """The values of dotted keys."""
    plain = to_plain(config)
    found = {}
    for key in keys:
        value = plain
        for part in key.split("."):
            value = value[part]
        found[key] = value
    return found
