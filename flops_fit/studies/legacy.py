"""Bridge to a trainer that reads one global dictionary: a typed configuration, and its keys there.

A job's configuration is typed; `update_legacy_dict` hands it to the dictionary once, just before the job's runner.
`legacy_params` is that dictionary: it holds `DEFAULTS` but for the time of a job, so that no job sees another's values.
"""

import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

LEGACY_KEYS = {
    "object_big": "object.big",
    "output_dir": "output_prefix",
    "train_data_file": "train_data_file_path",
    "test_data_file": "test_data_file_path",
}
"""Names there that differ from the fields below; all other fields keep theirs."""
DEFAULTS: dict[str, Any] = {
    "N": 64,
    "gridsize": 1,
    "object.big": True,
    "neighbor_count": 7,
    "nphotons": 1e9,
    "output_prefix": "training_outputs",
    "train_data_file_path": None,
    "test_data_file_path": None,
}
"""What the legacy trainer starts from."""
legacy_params: dict[str, Any] = copy.deepcopy(DEFAULTS)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model's side of a job. None stands for the legacy default."""

    gridsize: int = 1
    """Side of the square of neighbouring patterns that make one sample."""
    N: int | None = None
    """Detector pixels along one side."""
    object_big: bool | None = None
    """Whether the patches of a sample are assembled to one object."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A job's configuration. None stands for the legacy default."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train_data_file: Path | None = None
    test_data_file: Path | None = None
    output_dir: Path | None = None
    nphotons: float | None = None
    """Photons per exposure."""
    neighbor_count: int | None = None
    """Nearest scan positions among which groups are formed."""


def to_legacy_dict(config: TrainingConfig) -> dict[str, Any]:
    """Returns a configuration under its legacy keys, paths as text; changes nothing."""
    values = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "model"}
    values |= {f.name: getattr(config.model, f.name) for f in fields(config.model)}
    named = {LEGACY_KEYS.get(name, name): value for name, value in values.items()}
    return {key: str(value) if isinstance(value, Path) else value for key, value in named.items()}


def update_legacy_dict(cfg: dict[str, Any], config: TrainingConfig) -> None:
    """Writes every key of a configuration into ``cfg``, in place.

    None writes the legacy default, so that no value of an earlier configuration is left.
    """
    for key, value in to_legacy_dict(config).items():
        cfg[key] = copy.deepcopy(DEFAULTS[key]) if value is None else value


def restore_defaults(cfg: dict[str, Any]) -> None:
    """Makes ``cfg`` a fresh copy of the defaults, in place."""
    cfg.clear()
    cfg.update(copy.deepcopy(DEFAULTS))
