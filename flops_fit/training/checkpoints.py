"""Checkpoints: the state of a run on disk, so that it survives a kill at any moment.

A checkpoint is a folder that is written under a temporary name, synced with a manifest of hashes, and renamed; one that
does not match its manifest is ignored. Tensors are safetensors, the rest is JSON; nothing is pickled.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from flops_fit.distributed import World
from flops_fit.files import publish_folder, storage_errors

# A half-written folder older than this belongs to a killed process, not to one that is writing.
ABANDONED_SECONDS = 3600
FILES = ("tensors.safetensors", "state.json")

logger = logging.getLogger(__name__)


def tensors_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Sequence[torch.Tensor] = ()
) -> dict[str, torch.Tensor]:
    """Copies the full tensors of a run to the host; every process of a sharded model must call it."""
    tensors = {f"model.{k}": _full(v) for k, v in model.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": _full(v) for k, v in values.items()}
    return tensors | {f"average.{i}": _full(v) for i, v in enumerate(average)}


def save_checkpoint(
    folder: Path,
    tensors: dict[str, torch.Tensor],
    state: dict[str, Any],
    *,
    losses: Sequence[float],
    keep: int,
) -> None:
    """Saves a run between two steps, then removes all but the ``keep`` newest checkpoints.

    Args:
        folder: Holds the checkpoints of one run.
        tensors: From `tensors_of`.
        state: Anything else to restore, JSON-ready; ``step`` is the number of steps done.
        losses: Training loss of each step done.
        keep: How many checkpoints to keep.
    """
    final = folder / f"step-{state['step']:08d}"
    if final.exists():
        if _state_of(final) is not None:
            return
        # Damaged, and passed over when the run was resumed.
        shutil.rmtree(final, ignore_errors=True)

    def fill(aside: Path) -> None:
        save_file(tensors | {"losses": torch.tensor(losses, dtype=torch.float64)}, aside / FILES[0])
        (aside / FILES[1]).write_text(json.dumps(state))
        (aside / "manifest.json").write_text(json.dumps(_manifest(aside)))

    publish_folder(final, fill)
    with storage_errors(folder):
        now = final.stat().st_mtime
        abandoned = [p for p in folder.glob(".step-*") if now - p.stat().st_mtime > ABANDONED_SECONDS]
        for old in (*abandoned, *sorted(folder.glob("step-*"))[:-keep]):
            shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Sequence[torch.Tensor] = (),
    *,
    world: World,
    last_step: int | None = None,
    engine: dict[str, Any] | None = None,
    owner: str | None = None,
) -> dict[str, Any] | None:
    """Loads the newest intact checkpoint; the main process chooses it for all. One that is damaged is passed over.

    Args:
        folder: Holds the checkpoints.
        model: Not wrapped.
        optimizer: Of the model.
        average: Of its weights.
        world: All processes call this.
        last_step: Only checkpoints of up to so many steps.
        engine: Only checkpoints of this ``state["engine"]``.
        owner: Only checkpoints of this ``state["owner"]``, the run or trunk that wrote it; None: of any.

    Returns:
        The saved state with its ``losses``, or None if there is none.
    """
    newest = _newest(folder, last_step, engine, owner) if world.is_main else None
    name = world.agree(None if newest is None else newest.name)
    if name is None:
        return None
    return world.together(lambda: _load(folder / name, model, optimizer, average), waiting=world.is_sharded)


def _newest(folder: Path, last_step: int | None, engine: dict[str, Any] | None, owner: str | None) -> Path | None:
    for path in sorted(folder.glob("step-*"), reverse=True):
        if not path.name[5:].isdigit() or (last_step is not None and int(path.name[5:]) > last_step):
            continue
        saved = _state_of(path)
        if saved is None:
            logger.warning("%s is damaged and is not used", path)
        elif owner is not None and saved.get("owner", owner) != owner:
            logger.warning("%s is of another run and is not used", path)
        elif engine is None or saved["engine"] == engine:
            return path
    return None


def _load(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Sequence[torch.Tensor]
) -> dict[str, Any]:
    tensors = load_file(path / FILES[0])
    model.load_state_dict({k: _like(v, tensors[f"model.{k}"]) for k, v in model.state_dict().items()})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    saved = optimizer.state_dict()
    saved["state"] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            # Moments have their parameter's shape; the count of steps is a number.
            value = _like(parameters[int(index)], tensor) if tensor.ndim else tensor
            saved["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(saved)
    for i, value in enumerate(average):
        value.copy_(_like(value, tensors[f"average.{i}"]))
    return {**json.loads((path / FILES[1]).read_text()), "losses": tensors["losses"].tolist()}


def _full(tensor: torch.Tensor) -> torch.Tensor:
    """Copies to memory of its own: safetensors refuses shared and strided tensors."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().cpu().contiguous().clone()


def _like(tensor: torch.Tensor, full: torch.Tensor) -> torch.Tensor:
    """Takes this process' shard of a full tensor where ``tensor`` is sharded."""
    if isinstance(tensor, DTensor):
        return distribute_tensor(full.to(tensor.device), tensor.device_mesh, tensor.placements)
    return full


def _manifest(folder: Path) -> dict[str, str]:
    hashes = {}
    for name in FILES:
        with (folder / name).open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _state_of(folder: Path) -> dict[str, Any] | None:
    """Reads the state of a checkpoint; None unless all its files are as they were written."""
    try:
        if json.loads((folder / "manifest.json").read_text()) != _manifest(folder):
            return None
        state = json.loads((folder / FILES[1]).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return state if isinstance(state, dict) and state.get("step") == int(folder.name[5:]) else None
