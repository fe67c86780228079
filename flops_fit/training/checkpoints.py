"""How does a run survive a kill at any moment?

A checkpoint is a folder, written aside with a manifest of sizes and hashes and then renamed; a folder that does not
match its manifest does not count. Tensors are safetensors, the rest is JSON; nothing is pickled.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from flops_fit.files import storage_errors


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    *,
    keep: int,
) -> None:
    """Saves a run between two steps, then removes all but the ``keep`` newest checkpoints.

    Args:
        folder: Holds the checkpoints of one run.
        step: Optimizer steps done.
        model: Not wrapped.
        optimizer: Its state is saved with it.
        state: Anything else to come back, JSON-ready.
        keep: How many to leave.
    """
    final = folder / f"step-{step:08d}"
    if final.exists():
        return
    aside = folder / f".step-{step:08d}"
    with storage_errors(folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tensors = {f"model.{k}": v.detach().contiguous().clone() for k, v in model.state_dict().items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v.detach().contiguous().clone() for k, v in values.items()}
        save_file(tensors, aside / "tensors.safetensors")
        (aside / "state.json").write_text(json.dumps({"step": step, **state}))
        (aside / "manifest.json").write_text(json.dumps(_manifest(aside)))
        aside.rename(final)
        for old in sorted(folder.glob("step-*"))[:-keep]:
            shutil.rmtree(old)


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Loads the newest checkpoint that is whole; returns its state, or None if there is none."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if not _is_whole(path):
            continue
        tensors = load_file(path / "tensors.safetensors")
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        saved = optimizer.state_dict()
        saved["state"] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                saved["state"].setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict(saved)
        state: dict[str, Any] = json.loads((path / "state.json").read_text())
        return state
    return None


def _manifest(folder: Path) -> dict[str, str]:
    names = ("tensors.safetensors", "state.json")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _is_whole(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "manifest.json").read_text()) == _manifest(folder))
    except (OSError, ValueError):
        return False
