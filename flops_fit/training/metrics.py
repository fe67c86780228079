"""Metrics of a run: JSON lines every few steps, and the trackers of Accelerate."""

import json
import time
from pathlib import Path
from typing import IO, Self

import torch
from accelerate import Accelerator
from accelerate.tracking import filter_trackers

from flops_fit.distributed import World
from flops_fit.errors import ConfigError
from flops_fit.files import replace_file, storage_errors
from flops_fit.memory import peak_resident_bytes
from flops_fit.records import Experiment
from flops_fit.schema import to_plain
from flops_fit.training.engine.peak_flops import peak_flops_per_second
from flops_fit.training.engine.probe import EngineChoice
from flops_fit.training.settings import TrainSettings


class MetricsLog:
    """Appends to ``metrics.jsonl``; after a resume, lines of steps that are repeated are dropped first."""

    def __init__(
        self,
        run_dir: Path,
        experiment: Experiment,
        *,
        first_step: int,
        world: World,
        settings: TrainSettings,
        choice: EngineChoice,
    ) -> None:
        self._file: IO[bytes] | None = None
        self._world, self._choice = world, choice
        self._flops_per_token = experiment.measured_flops_per_token or experiment.flops_per_token
        self._tokens = first_step * experiment.recipe.batch_tokens
        self._started = self._last = time.perf_counter()
        if settings.trackers:
            _start_trackers(world.accelerator, settings.trackers, run_dir, experiment)
        if world.is_main:
            self._path = run_dir / "metrics.jsonl"
            with storage_errors(self._path):
                _cut(self._path, first_step)
                # Unbuffered: each line is one write, to the end of the file.
                self._file = self._path.open("ab", buffering=0)

    def write(
        self, step: int, *, tokens: int, loss: float, learning_rate: float, gradient_norm: torch.Tensor | None
    ) -> None:
        """Writes one line after ``step`` steps."""
        if self._file is None:
            return
        now = time.perf_counter()
        rate = (tokens - self._tokens) / max(now - self._last, 1e-9)
        values = {
            "step": step,
            "tokens": tokens,
            "loss": loss,
            "learning_rate": learning_rate,
            "gradient_norm": None if gradient_norm is None else float(gradient_norm),
            "tokens_per_second": round(rate, 1),
            "model_flops_utilization": round(rate * self._flops_per_token / self._peak(), 5),
            "memory_bytes": _memory_bytes(self._world.device),
            "seconds": round(now - self._started, 3),
        }
        self._tokens, self._last = tokens, time.perf_counter()
        with storage_errors(self._path):
            self._append((json.dumps(values) + "\n").encode())
        if self._world.accelerator.trackers:
            self._world.accelerator.log({k: v for k, v in values.items() if k != "step"}, step=step)

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        self._file.write(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        # A tracker left open would also receive the next run.
        for tracker in self._world.accelerator.trackers:
            tracker.finish()
        self._world.accelerator.trackers.clear()

    def _peak(self) -> float:
        return peak_flops_per_second(self._world.device, self._choice.precision) * self._world.size


def _start_trackers(accelerator: Accelerator, names: tuple[str, ...], run_dir: Path, experiment: Experiment) -> None:
    try:
        usable = filter_trackers(list(names), str(run_dir))
    except ValueError as error:
        raise ConfigError(f"train.trackers: got {list(names)}. {error}") from error
    if len(usable) < len(set(names)):
        raise ConfigError(
            f"train.trackers: got {list(names)}, of which {[str(t) for t in usable]} can be used here. "
            "Install the package, for example `pip install flops-fit[tensorboard]`."
        )
    accelerator.log_with = usable
    accelerator.project_configuration.logging_dir = str(run_dir)
    config = {k: v for k, v in to_plain(experiment).items() if isinstance(v, (int, float, str))}
    recipe = {k: v for k, v in to_plain(experiment.recipe).items() if isinstance(v, (int, float, str))}
    accelerator.init_trackers("flops-fit", config | recipe)


def _memory_bytes(device: torch.device) -> int:
    """Peak memory of the process: allocated on a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()


def _cut(path: Path, last_step: int) -> None:
    """Leaves out the lines of later steps, and what a kill has left unfinished.

    In a new file, so that a worker that was taken over and wakes up writes to the old one.
    """
    if path.is_file():
        lines = path.read_bytes().splitlines(keepends=True)
        replace_file(path, b"".join(line for line in lines if 0 < _step_of(line) <= last_step))


def _step_of(line: bytes) -> int:
    """The step of a line; 0 where it is none of ours."""
    try:
        values = json.loads(line) if line.endswith(b"}\n") else {}
        return int(values["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
