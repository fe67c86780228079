"""How does the engine work? Nothing here changes what a run is; `records.Recipe` does."""

from dataclasses import dataclass
from typing import Literal

from flops_fit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of the engine (configs/train)."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast where the device computes it fast and the model is large enough, else fp32."""
    micro_batch_samples: int | None = None
    """Samples per forward pass and process; None: the process' whole share, halved when memory runs out."""
    eval_samples: int = 4096
    """Held-out samples of the final loss, evenly spaced over the held-out data."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""
    checkpoint_seconds: float = 60.0
    """Time between two checkpoints of a run; shorter runs start again instead."""
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        """Refuses settings out of range."""
        for name in ("eval_samples", "log_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name}: got {getattr(self, name)}, expected at least 1.")
        if self.micro_batch_samples is not None and self.micro_batch_samples < 1:
            raise ConfigError(f"train.micro_batch_samples: got {self.micro_batch_samples}, expected at least 1.")
        if self.checkpoint_seconds < 0:
            raise ConfigError(f"train.checkpoint_seconds: got {self.checkpoint_seconds}, expected 0 or more.")
