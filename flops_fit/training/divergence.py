"""Divergence of a run: losses and gradients that are not finite, or that explode."""

import math

import torch

from flops_fit.distributed import World
from flops_fit.training.step import Run

# A loss this many times the first one means that the run has diverged.
EXPLODED = 10.0


def diverged_before_update(run: Run, norm: torch.Tensor | None, world: World) -> str | None:
    """Checks a step before it can spoil the weights, where that needs no wait for a device; as `diverged_so_far`.

    Gradients are summed over the processes, so what is not finite on one of them is not on any.
    """
    if world.device.type != "cpu" or run.scaler.is_enabled():
        return None
    loss = run.waiting[-1]
    if norm is not None and not math.isfinite(float(norm)):
        return _check_losses(run, world) or f"the gradient norm was {float(norm)} at step {run.step}."
    if norm is None and not math.isfinite(float(world.sum(loss.clone()))):
        return _check_losses(run, world)
    return None


def diverged_so_far(run: Run, norm: torch.Tensor | None, world: World) -> str | None:
    """Checks the losses since the last check and the norm of the last step's gradients.

    Returns:
        How and at which step the run diverged, on every process alike; None if it did not.
    """
    return _check_losses(run, world) or _check_gradients(run, norm)


def _check_losses(run: Run, world: World) -> str | None:
    """Copies the losses since the last check to the host; returns how the run diverged, or None."""
    losses = world.sum(torch.stack(run.waiting)).tolist()
    run.waiting.clear()
    for loss in losses:
        step = len(run.losses)
        if not math.isfinite(loss):
            return f"the training loss was {loss} at step {step}."
        if step and loss > EXPLODED * max(run.losses[0], 1e-6):
            first = run.losses[0]
            return f"the training loss was {loss:.4g} at step {step}, {EXPLODED:g} times the first ({first:.4g})."
        run.losses.append(loss)
    return None


def _check_gradients(run: Run, norm: torch.Tensor | None) -> str | None:
    """Returns how the last step spoiled the weights, or None; its loss was still that of the weights before."""
    # Gradients in fp16 overflow now and then; the scaler leaves such a step out.
    if norm is None or run.scaler.is_enabled() or math.isfinite(float(norm)):
        return None
    return f"the gradient norm was {float(norm)} at step {run.step - 1}."
