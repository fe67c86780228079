"""How does a run survive a kill at any moment?

A checkpoint is a folder, written aside and synced, with a manifest of hashes, and then renamed; a folder that does
not match its manifest does not count. Tensors are safetensors, the rest is JSON; nothing is pickled.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from flops_fit.distributed import World
from flops_fit.files import storage_errors

# A half-written folder this old is of a process that was killed, not of another one that writes now.
ABANDONED_SECONDS = 3600
FILES = ("tensors.safetensors", "state.json")


def tensors_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Sequence[torch.Tensor] = ()
) -> dict[str, torch.Tensor]:
    """Copies the tensors of a run to the host, whole; of a sharded model every process must call it."""
    tensors = {f"model.{k}": _whole(v) for k, v in model.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": _whole(v) for k, v in values.items()}
    return tensors | {f"average.{i}": _whole(v) for i, v in enumerate(average)}


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
        state: Anything else to come back, JSON-ready; ``step`` is the number of steps done.
        losses: Training loss of each step done.
        keep: How many to leave.
    """
    final = folder / f"step-{state['step']:08d}"
    if final.exists():
        return
    aside = folder / f".{final.name}.{uuid.uuid4().hex}"
    with storage_errors(folder):
        try:
            aside.mkdir(parents=True)
            save_file(tensors | {"losses": torch.tensor(losses, dtype=torch.float64)}, aside / FILES[0])
            (aside / FILES[1]).write_text(json.dumps(state))
            (aside / "manifest.json").write_text(json.dumps(_manifest(aside)))
            for path in (*aside.iterdir(), aside):
                _sync(path)
            if not final.exists():
                aside.rename(final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        _sync(folder)
        now = final.stat().st_mtime
        left_behind = [p for p in folder.glob(".step-*") if now - p.stat().st_mtime > ABANDONED_SECONDS]
        for old in (*left_behind, *sorted(folder.glob("step-*"))[:-keep]):
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
) -> dict[str, Any] | None:
    """Loads the newest checkpoint that is whole; the main process says which one that is.

    Args:
        folder: Holds the checkpoints.
        model: Not wrapped.
        optimizer: Of the model.
        average: Of its weights.
        world: All processes call this.
        last_step: Only checkpoints of up to so many steps.
        engine: Only checkpoints of this ``state["engine"]``.

    Returns:
        The saved state with its ``losses``, or None if there is none.
    """
    found = _newest(folder, last_step, engine) if world.is_main else None
    name = world.agree(None if found is None else found.name)
    if name is None:
        return None
    return world.together(lambda: _load(folder / name, model, optimizer, average), waiting=world.is_sharded)


def _newest(folder: Path, last_step: int | None, engine: dict[str, Any] | None) -> Path | None:
    for path in sorted(folder.glob("step-*"), reverse=True):
        if (last_step is None or int(path.name[5:]) <= last_step) and _is_whole(path):
            saved = json.loads((path / FILES[1]).read_text())
            if engine is None or saved["engine"] == engine:
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


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of its own memory: safetensors refuses shared and strided tensors."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().cpu().contiguous().clone()


def _like(tensor: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Takes this process' part of a whole tensor, where ``tensor`` is sharded."""
    if isinstance(tensor, DTensor):
        return distribute_tensor(whole.to(tensor.device), tensor.device_mesh, tensor.placements)
    return whole


def _manifest(folder: Path) -> dict[str, str]:
    found = {}
    for name in FILES:
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _is_whole(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "manifest.json").read_text()) == _manifest(folder))
    except (OSError, ValueError):
        return False


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
