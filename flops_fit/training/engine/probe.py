"""The choice of precision, micro-batch and compilation for a size: tried for some steps, then kept.

The choice is made once for a size and kept in a file, so that a resumed run and the runs of one trunk go on with it:
what is fastest is measured, and two measurements need not agree.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from flops_fit.data.randomness import Draws
from flops_fit.distributed import World
from flops_fit.errors import ConfigError
from flops_fit.files import replace_file
from flops_fit.records import Experiment
from flops_fit.schema import build, to_plain
from flops_fit.tasks import Task, compute_loss, create_model
from flops_fit.training.engine.compilation import compiled
from flops_fit.training.engine.memory import bytes_per_sample, free_bytes
from flops_fit.training.engine.precision import Precision, half_precision_of, precision_context
from flops_fit.training.feeding import moved, needs_two_samples
from flops_fit.training.settings import TrainSettings

# Below this a step is mostly calls and two probes need not agree, which would cost the runs of small sweeps, the
# built-in ones among them, that they repeat to the bit.
MIN_PARAMS_FOR_16_BIT_ON_CPU = 200_000
# Speed-up from which another candidate replaces plain fp32; a probe is off by several percent.
WORTH = 1.05
# Training seconds from which compiling can pay: it takes half a minute on a CPU and gains about a sixth.
MIN_SECONDS_TO_COMPILE = 600.0
# Share of the free memory that saved activations may take; gradients of some of them come on top.
MEMORY_SHARE = 0.4
TRIALS = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """How one size is trained here."""

    precision: Precision = "fp32"
    plain_attention: bool = False
    """Whether attention avoids the fused kernel, which is slow in bf16 on CPUs at short context."""
    micro_batch: int | None = None
    """Samples per forward pass and process; None for the whole share of a step."""
    compiled: bool = False
    seconds_per_step: float | None = None
    """As probed on one process without communication; None where nothing was probed."""

    def arithmetic(self, world_size: int) -> dict[str, Any]:
        """What decides the last bits of a run's losses."""
        return {
            "precision": self.precision,
            "plain_attention": self.plain_attention,
            "micro_batch": self.micro_batch,
            "compiled": self.compiled,
            "world_size": world_size,
        }


def choose_engine(
    task: Task, experiment: Experiment, world: World, settings: TrainSettings, path: Path
) -> EngineChoice:
    """Returns the choice kept in ``path``, or makes it; the same on every process.

    Args:
        task: Model, data and loss.
        experiment: Says size and batch.
        world: All processes call this.
        settings: Whatever is not "auto" is used as given.
        path: Where the choice is kept, with all that it depends on.
    """
    conditions = _conditions(experiment, world, settings)
    kept: EngineChoice | None = world.agree(_read(path, conditions) if world.is_main else None)
    if kept is not None:
        return kept
    mine = (
        _unprobed(world, settings)
        if world.is_sharded
        else world.together(lambda: _probe(task, experiment, world, settings), what="the probe of the engine")
    )
    smallest = min((c.micro_batch for c in world.gather(mine) if c.micro_batch is not None), default=None)
    choice: EngineChoice = world.agree(EngineChoice(**{**mine.__dict__, "micro_batch": smallest}))
    if world.is_main:
        replace_file(path, json.dumps({"conditions": conditions, "choice": to_plain(choice)}, indent=1).encode())
    return choice


def halved(choice: EngineChoice, experiment: Experiment, world_size: int) -> EngineChoice | None:
    """Returns the choice with half the micro-batch, or None if it is one sample already."""
    now = choice.micro_batch or _share(experiment, world_size)
    return None if now == 1 else EngineChoice(**{**choice.__dict__, "micro_batch": now // 2})


def _conditions(experiment: Experiment, world: World, settings: TrainSettings) -> dict[str, Any]:
    device = world.device
    return {
        "size": experiment.size_param_value,
        "batch_tokens": experiment.recipe.batch_tokens,
        "world_size": world.size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "precision": settings.precision,
        "micro_batch_samples": settings.micro_batch_samples,
        "compile": settings.compile,
    }


def _read(path: Path, conditions: dict[str, Any]) -> EngineChoice | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if found.get("conditions") != conditions:
        return None
    known = {field.name for field in fields(EngineChoice)}
    return build(EngineChoice, {k: v for k, v in found["choice"].items() if k in known})


def _probe(task: Task, experiment: Experiment, world: World, settings: TrainSettings) -> EngineChoice:
    share = _share(experiment, world.size)
    micro = settings.micro_batch_samples
    ways = _ways(settings, world.device, experiment.num_params)
    tries_compile = settings.compile == "auto" and world.device.type in ("cpu", "cuda")
    state = torch.get_rng_state()
    model = create_model(task, experiment.size_param_value).to(world.device)
    if micro is None:
        micro = _fitting(task, model, share, world)
    chosen, seconds = next(iter(ways)), None
    if len(ways) > 1 or tries_compile:
        micro, times = _within_memory(task, model, micro or share, ways, world.device)
        chosen = min(ways, key=lambda way: times[way] * (WORTH if way != "fp32" else 1))
        seconds = times[chosen] * share / micro
    compiles = settings.compile == "always"
    if tries_compile and seconds is not None and seconds * experiment.num_steps > MIN_SECONDS_TO_COMPILE:
        batch = _batch_of(task, micro or share, world.device)
        is_split = micro is not None and micro < share
        compiles = _compiling_pays(task, model, batch, ways[chosen], world.device, is_split)
    torch.set_rng_state(state)
    return EngineChoice(
        precision=ways[chosen][0],
        plain_attention=ways[chosen][1],
        micro_batch=None if micro is not None and micro >= share else micro,
        compiled=compiles,
        seconds_per_step=seconds,
    )


def _unprobed(world: World, settings: TrainSettings) -> EngineChoice:
    """Chooses without a probe for a sharded model, which may not fit on one device."""
    if settings.compile == "always":
        raise ConfigError('train.compile: got "always", expected "auto" or "never" for a sharded model (FSDP).')
    automatic: Precision = half_precision_of(world.device) if world.device.type == "cuda" else "fp32"
    return EngineChoice(
        precision=automatic if settings.precision == "auto" else settings.precision,
        micro_batch=settings.micro_batch_samples,
    )


def _ways(settings: TrainSettings, device: torch.device, num_params: int) -> dict[str, tuple[Precision, bool]]:
    """Candidates by name: precision, and whether attention is plain. The first wins unless another is faster."""
    if settings.precision != "auto":
        return {settings.precision: (settings.precision, False)}
    ways: dict[str, tuple[Precision, bool]] = {"fp32": ("fp32", False)}
    if device.type == "cuda":
        precision = half_precision_of(device)
        ways[precision] = (precision, False)
    fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    if fast and num_params >= MIN_PARAMS_FOR_16_BIT_ON_CPU:
        ways |= {"bf16": ("bf16", False), "bf16_plain_attention": ("bf16", True)}
    return ways


def _fitting(task: Task, model: nn.Module, share: int, world: World) -> int:
    """The longest of the equal pieces of a process' share whose activations fit into free memory."""
    each = _bytes_each(task, model, world.device)
    limit = MEMORY_SHARE * free_bytes(world.device) / world.memory_shares / max(each, 1)
    most = max(1, min(share, int(limit)))
    return -(-share // -(-share // most))


def _bytes_each(task: Task, model: nn.Module, device: torch.device) -> float:
    count = 2 if needs_two_samples(model) else 1
    while True:
        batch = _batch_of(task, count, device)
        try:
            return bytes_per_sample(model, partial(compute_loss, task, model, batch)) / count
        except torch.OutOfMemoryError:
            raise
        except Exception:
            # Some models cannot train on one sample, for example one that squeezes its outputs.
            if count > 1:
                raise
            count = 2
        finally:
            model.zero_grad(set_to_none=True)


def _within_memory(
    task: Task, model: nn.Module, micro: int, ways: dict[str, tuple[Precision, bool]], device: torch.device
) -> tuple[int, dict[str, float]]:
    """Times one forward and backward pass in each way, with half the samples where memory runs out."""
    while True:
        try:
            batch = _batch_of(task, micro, device)
            return micro, _race({name: _step(task, model, batch, way) for name, way in ways.items()}, device)
        except torch.OutOfMemoryError:
            if micro == 1:
                raise
            micro //= 2
            model.zero_grad(set_to_none=True)


def _batch_of(task: Task, count: int, device: torch.device) -> Any:
    assert task.train_data is not None
    known = task.train_data.num_samples
    ids = np.arange(count, dtype=np.int64)
    with Draws(0).at(range(count)):
        return moved(task.train_data.batch(ids if known is None else ids % known), device)


def _step(task: Task, model: nn.Module, batch: Any, way: tuple[Precision, bool]) -> Callable[[], None]:
    device = next(model.parameters()).device

    def run() -> None:
        with precision_context(*way, device):
            loss = compute_loss(task, model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    return run


def _race(runners: dict[Any, Callable[[], None]], device: torch.device) -> dict[Any, float]:
    """Times each candidate: the best of several turns, interleaved, since other load comes and goes."""
    best = dict.fromkeys(runners, float("inf"))
    for turn in range(TRIALS + 1):
        for name, run in runners.items():
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn > 0:  # The first turn warms up.
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def _compiling_pays(
    task: Task, model: nn.Module, batch: Any, way: tuple[Precision, bool], device: torch.device, is_split: bool
) -> bool:
    try:
        fast = compiled(model, device, is_split=is_split)
        times = _race({"eager": _step(task, model, batch, way), "compiled": _step(task, fast, batch, way)}, device)
    except Exception as error:
        # What cannot be compiled trains as it is.
        logger.info("not compiled: %s: %s", type(error).__name__, str(error).split("\n")[0])
        return False
    return times["compiled"] * WORTH < times["eager"]


def _share(experiment: Experiment, world_size: int) -> int:
    """Samples of a step per process."""
    return -(-(experiment.recipe.batch_tokens // experiment.tokens_per_sample) // world_size)
