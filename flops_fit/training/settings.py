"""Settings of the engine. None of them changes what a run is; `records.Recipe` does."""

from dataclasses import dataclass
from typing import Literal

from flops_fit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of the engine (configs/train)."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: what a probe of a few steps finds fastest for this size on this device; fp16 only where it has no bf16.

    bf16 and fp16 are autocast, fp16 with a loss scale that checkpoints hold.
    """
    micro_batch_samples: int | None = None
    """Samples per forward pass and process; None: as many as memory holds, halved when it runs out.

    Without dropout it changes losses by rounding only. Dropout masks are drawn per forward pass, from (seed, step,
    process): with dropout another micro-batch or number of processes is another draw, like another seed. BatchNorm
    takes its statistics over a micro-batch, and those of the first process are kept: set it where it matters.
    """
    compile: Literal["auto", "always", "never"] = "auto"
    """auto: torch.compile where the run is long enough to pay for it and a probe finds it faster."""
    eval_samples: int = 4096
    """Held-out samples of the final loss, evenly spaced over the held-out data."""
    log_every: int = 50
    """Steps between two looks at the losses: a line of metrics.jsonl, and the check that they are finite."""
    checkpoint_seconds: float = 60.0
    """Shortest time between two checkpoints of a run; shorter runs start again instead. Longer where saving would take
    more than 2 % of the time; 0 saves after each step, whatever it costs."""
    keep_checkpoints: int = 2
    """The newest ones, of a run that is not finished."""
    lease_seconds: float = 600.0
    """Other workers of the folder take over a run whose heartbeat, ten of which are due in this time, has not changed
    for so long; where they see that its process is gone, they do so at once. The same for all workers of a folder."""
    stall_seconds: float = 1200.0
    """Without a step or a part of an evaluation for so long, the command ends its attempt as stalled and itself.
    Longer than a step, a compilation, a checkpoint and the first read of the data take."""
    share_trunks: bool = True
    """Whether runs of one size and seed train their common steps once; the results are the same to the bit."""
    workers: int | Literal["auto"] = 1
    """Processes that train runs side by side on this machine, set round its GPUs where it has some. auto: as many as
    there are CPU threads, where every run is small enough to train on one thread anyway, or one per GPU."""
    keep_weights: Literal["none", "best", "final", "both"] = "none"
    """Which weights of each run to keep, as runs/<id>/{final,best}_model.safetensors.

    best: of the lowest held-out loss at ten evaluations, one after every tenth of the steps; nine of them are in
    addition to that of the end, and of a run that begins on another's steps only those after them are made.
    """
    trackers: tuple[str, ...] = ()
    """Also log to these, through Accelerate: "tensorboard", "wandb", "trackio", ..."""

    @property
    def kept_kinds(self) -> tuple[Literal["final", "best"], ...]:
        """Kinds of weights to keep."""
        kinds: tuple[Literal["final", "best"], ...] = ("final", "best")
        return tuple(kind for kind in kinds if self.keep_weights in (kind, "both"))

    def __post_init__(self) -> None:
        """Refuses settings out of range."""
        for name in ("eval_samples", "log_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name}: got {getattr(self, name)}, expected at least 1.")
        if self.micro_batch_samples is not None and self.micro_batch_samples < 1:
            raise ConfigError(f"train.micro_batch_samples: got {self.micro_batch_samples}, expected at least 1.")
        if self.workers != "auto" and self.workers < 1:
            raise ConfigError(f'train.workers: got {self.workers}, expected at least 1, or "auto".')
        for name in ("lease_seconds", "stall_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"train.{name}: got {getattr(self, name)}, expected more than 0.")
        if self.checkpoint_seconds < 0:
            raise ConfigError(f"train.checkpoint_seconds: got {self.checkpoint_seconds}, expected 0 or more.")
