"""Options of `flops-fit train --launcher`: checked before anything is started or submitted."""

import re
from dataclasses import dataclass
from pathlib import Path

from flops_fit.errors import ConfigError
from flops_fit.schema import unknown_name

LAUNCHERS = ("local", "accelerate", "torchrun", "slurm")
# minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds
_TIME = re.compile(r"\d+(:\d{1,2}){0,2}|\d+-\d{1,2}(:\d{1,2}){0,2}")
_NAMES = re.compile(r"[A-Za-z0-9_.-]+(,[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How the runs of one sweep are started.

    Raises:
        ConfigError: If an option has no meaning with this launcher, or a value is out of range.
    """

    directory: Path
    """The sweep's folder."""
    launcher: str = "local"
    processes: int | None = None
    """That train each run together, on each node."""
    sharded: bool = False
    """Whether each of them holds a part of the model (FSDP)."""
    nodes: int | None = None
    """Of a SLURM job whose processes train each run together."""
    array: int | None = None
    """Tasks of a SLURM array, each a worker of its own."""
    gpus: int | None = None
    """That SLURM gives each node or each worker; None: as many as processes on a node, and none to a worker."""
    time: str | None = None
    """Limit of a SLURM job, such as 04:00:00."""
    partition: str | None = None
    """Of SLURM."""
    train_options: tuple[str, ...] = ()
    """Further words of `flops-fit train`, for the processes that are started."""

    def __post_init__(self) -> None:
        if self.launcher not in LAUNCHERS:
            raise ConfigError(unknown_name("launcher", self.launcher, self.launcher, LAUNCHERS))
        self._check_meaning()
        self._check_values()

    @property
    def is_array(self) -> bool:
        """Whether SLURM starts workers that each train their own runs, not processes that train each run together."""
        return self.launcher == "slurm" and self.nodes is None and self.processes is None

    def _check_meaning(self) -> None:
        is_slurm = self.launcher == "slurm"
        given = {f"--{name}": getattr(self, name) for name in ("nodes", "array", "gpus", "time", "partition")}
        for option, value in given.items():
            if value is not None and not is_slurm:
                raise ConfigError(
                    f"{option} {value}: it belongs to --launcher slurm, got --launcher {self.launcher}. Remove one of "
                    "the two."
                )
        if self.launcher == "local":
            for option, is_given in (("--processes", self.processes is not None), ("--sharded", self.sharded)):
                if is_given:
                    raise ConfigError(
                        f"{option}: got --launcher local, which trains each run in one process. Add --launcher "
                        "torchrun for several processes on each run, or use --workers N for several runs at a time."
                    )
        if is_slurm and self.array is not None and not self.is_array:
            raise ConfigError(
                "--array starts workers that each train their own runs; --nodes and --processes start processes that "
                "train each run together. Give one of the two."
            )
        if self.launcher in ("accelerate", "torchrun") and self.processes is None:
            raise ConfigError(
                f"--launcher {self.launcher} starts several processes for each run and was not told how many. Add "
                "--processes N: the GPUs of this machine, or 2 to try it on CPU."
            )
        if self.sharded and self.is_array:
            raise ConfigError("--sharded: a worker of an array is one process. Add --nodes M --processes N.")

    def _check_values(self) -> None:
        for name in ("nodes", "array"):
            self._check_range(name, 1)
        self._check_range("gpus", 0)
        # torchrun serves a SLURM step of several nodes with one process on each, too.
        self._check_range("processes", 2 if self.launcher == "accelerate" else 1)
        if self.time is not None and not _TIME.fullmatch(self.time):
            raise ConfigError(
                f"--time: got {self.time!r}, expected minutes, hours:minutes:seconds or days-hours:minutes, such as "
                "--time 04:00:00."
            )
        if self.partition is not None and not _NAMES.fullmatch(self.partition):
            raise ConfigError(f"--partition: got {self.partition!r}, expected a name that `sinfo` lists.")

    def _check_range(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is not None and value < least:
            hint = " One process needs no launcher: use --launcher local." if least == 2 and value == 1 else ""
            raise ConfigError(f"--{name}: got {value}, expected {least} or more.{hint}")
