"""State of a pipeline's folder: which stage has made what, from which inputs (``pipeline_state.json``)."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flops_fit.errors import ConfigError, InputError
from flops_fit.files import file_hash, replace_file
from flops_fit.schema import build_record, canonical_json, to_plain

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What one stage has made."""

    input_hash: str
    """Of the configuration keys and the files that it read."""
    done: bool = False
    """False from its start to its end: what lies in its folder is then unfinished work of this input."""
    seconds: float = 0.0
    outputs: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path, relative to the folder."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What later stages and the metrics need to know, as plain values."""


@dataclass(frozen=True, kw_only=True)
class PipelineState:
    """The content of ``pipeline_state.json``."""

    run_id: str
    config: Mapping[str, Any]
    stages: Mapping[str, StageRecord] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


class RunFolder:
    """A pipeline's output folder and its state; one process writes it."""

    def __init__(self, root: Path, config: Mapping[str, Any]) -> None:
        self.root = root
        self._path = root / "pipeline_state.json"
        state = read_state(root) or PipelineState(run_id=uuid.uuid4().hex[:12], config=config)
        self.state = replace(state, config=config)

    def record(self, stage: str) -> StageRecord | None:
        """Returns what a stage has made, None before its first start."""
        return self.state.stages.get(stage)

    def facts(self, stage: str) -> Mapping[str, Any]:
        """Returns the facts of a stage that is done, else none."""
        record = self.record(stage)
        return record.facts if record is not None and record.done else {}

    def is_current(self, stage: str, input_hash: str) -> bool:
        """Whether a stage is done with this input, and its outputs lie there as it left them."""
        record = self.record(stage)
        if record is None or not record.done or record.input_hash != input_hash:
            return False
        return all(file_hash(self.root / path) == sha256 for path, sha256 in record.outputs.items())

    def write(self, stage: str, record: StageRecord, *, to_disk: bool = True) -> None:
        """Stores a stage's record, in one step; on disk by the main process alone."""
        self.state = replace(self.state, stages={**self.state.stages, stage: record})
        if to_disk:
            replace_file(self._path, (json.dumps(to_plain(self.state), indent=1, allow_nan=False) + "\n").encode())


def read_state(root: Path) -> PipelineState | None:
    """Reads the state of a folder; None where it has none.

    Raises:
        InputError: If the file cannot be read as one.
    """
    path = root / "pipeline_state.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return build_record(PipelineState, values)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, ConfigError) as error:
        raise InputError(
            f"{path}: got a file that cannot be read as the state of a pipeline ({error}). "
            "Remove it, or try a new folder: --output-dir NEW."
        ) from error


def hash_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()
