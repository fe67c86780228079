"""Fit: model size and tokens, chosen by the law of the sweep; with the prediction for them, before they are trained."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flops_fit.errors import FitError
from flops_fit.files import replace_file
from flops_fit.pipeline.loss_surface import LossSurface, surface_of
from flops_fit.pipeline.settings import PipelineSettings
from flops_fit.pipeline.sizes import Sizes, flops_per_token
from flops_fit.pipeline.stages import Context, Outcome
from flops_fit.pipeline.sweep import FOLDER as SWEEP
from flops_fit.pipeline.sweep import MAX_EPOCHS
from flops_fit.pipeline.task import task_maker
from flops_fit.quantities import format_count, format_flops
from flops_fit.records import ModelProbe
from flops_fit.result import Result, load_result
from flops_fit.tasks import Task

PATH = "fit.json"
GRID = 200
"""Points between the smallest and the largest affordable N at which the expected loss is looked at."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to train."""

    probe: ModelProbe
    num_tokens: int
    trusted: bool
    reason: str
    recommended: str | None = None
    num_params_interval: tuple[float, float] | None = None

    @property
    def compute(self) -> float:
        """C(N, D), FLOPs as measured on the model."""
        return flops_per_token(self.probe) * self.num_tokens


def run(context: Context) -> Outcome:
    """Writes ``fit.json``."""
    settings, task = context.config.pipeline, task_maker(context)()
    result, reason = _load(context)
    choice, surface = choose(settings, task, result, reason)
    values = describe(choice, surface, result, settings)
    replace_file(context.root / PATH, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())
    size = f"N={format_count(choice.probe.num_params)}, D={format_count(choice.num_tokens)}"
    summary = f"{size}, C={format_flops(choice.compute)}"
    left_out = context.facts("sweep").get("left_out")
    if left_out:
        return Outcome(outputs=(PATH,), facts=values, left_out=f"{left_out}; by D/N = 20: {summary}")
    word = "" if choice.trusted else f"not trusted: {choice.reason}; by D/N = 20: "
    return Outcome(outputs=(PATH,), facts=values, summary=f"{word}{summary}")


def choose(
    settings: PipelineSettings, task: Task, result: Result | None, reason: str
) -> tuple[Choice, LossSurface | None]:
    """Chooses size and tokens: by the law where there is one to be trusted, else by D/N = 20.

    Args:
        settings: Say ``compute``, ``epochs`` and the range of sizes.
        task: What is trained, and on which tokens.
        result: The fitted sweep; None where there is none.
        reason: Why there is none.

    Returns:
        The choice, and the expected loss as a function of N and D, None where no law has one.

    Raises:
        PlanError: If even the smallest size costs more than ``compute`` at the epochs that are asked for.
    """
    sizes, unique, unit = Sizes(task, settings.min_size, settings.max_size), task.unique_tokens, task.tokens_per_sample
    assert unique is not None
    tokens = None if settings.epochs is None else settings.epochs * unique // unit * unit
    most = sizes.largest(settings.compute, tokens or unit, f"{settings.epochs or 1} epochs")
    surface = None if result is None else surface_of(result.laws, unique, repeats=(settings.epochs or 1) > 1)

    def by_rule(why: str, law: str | None = None) -> tuple[Choice, LossSurface | None]:
        """N = sqrt(C/120), which is D/N = 20 at 6 FLOPs per parameter and token; at most four passes of its own."""
        probe = sizes.nearest(math.sqrt(settings.compute / 120), most)
        own = min(_paid(settings.compute, probe, unit), int(MAX_EPOCHS * unique) // unit * unit)
        return Choice(probe=probe, num_tokens=tokens or own, trusted=False, reason=why, recommended=law), surface

    if result is None:
        return by_rule(reason)
    prediction = result.predict(settings.compute)
    assert prediction.trust is not None
    if prediction.trust.level == "no":
        return by_rule(prediction.trust.headline, prediction.law)
    if tokens is None:
        probe = sizes.nearest(prediction.num_params, most)
        optimal = _paid(settings.compute, probe, unit)
        if optimal > MAX_EPOCHS * unique:
            return by_rule(
                f"the optimum at {format_flops(settings.compute)} FLOPs sees the {format_count(unique)} training "
                f"tokens {optimal / unique:.1f} times, and the law holds up to {MAX_EPOCHS:g}",
                prediction.law,
            )
        return Choice(
            probe=probe, num_tokens=optimal, trusted=True, reason=prediction.trust.headline,
            recommended=prediction.law, num_params_interval=prediction.num_params_interval,
        ), surface  # fmt: skip
    if surface is None:
        return by_rule(f"the law {prediction.law} has no loss at a given number of tokens", prediction.law)
    grid = np.geomspace(sizes.smallest().num_params, most.num_params, GRID)
    expected, _, _ = surface.loss_at(grid, float(tokens))
    probe = sizes.nearest(float(grid[int(np.argmin(expected))]), most)
    why = f"{prediction.trust.headline} {surface.about}".strip()
    return Choice(probe=probe, num_tokens=tokens, trusted=True, reason=why, recommended=surface.law), surface


def describe(
    choice: Choice, surface: LossSurface | None, result: Result | None, settings: PipelineSettings
) -> dict[str, Any]:
    """The content of ``fit.json``: the choice, the prediction for it, and the compute-optimal model beside it."""
    n, d = choice.probe.num_params, choice.num_tokens
    prediction = None
    if surface is not None:
        loss, low, high = (float(v[0]) for v in surface.loss_at(np.array([float(n)]), float(d)))
        prediction = {
            "loss": loss, "interval": [low, high], "level": surface.level, "law": surface.law, "num_params": n,
            "num_tokens": d, "compute": choice.compute, "about": surface.about,
        }  # fmt: skip
    return {
        "recommended": choice.recommended,
        "trusted": choice.trusted,
        "reason": choice.reason,
        "num_params": n,
        "num_params_interval": None if choice.num_params_interval is None else list(choice.num_params_interval),
        "num_tokens": d,
        "size": choice.probe.size_param_value,
        "compute": choice.compute,
        "compute_limit": settings.compute,
        "prediction": prediction,
        "compute_optimal": _optimum(choice, surface, result, prediction),
    }


def _optimum(
    choice: Choice, surface: LossSurface | None, result: Result | None, prediction: dict[str, Any] | None
) -> dict[str, Any] | None:
    """The best (N, D) for the same C, and what the choice costs against it by the surface that predicts its loss."""
    if result is None:
        return None
    best = result.predict(choice.compute)
    found: dict[str, Any] = {
        "num_params": best.num_params,
        "num_params_interval": list(best.num_params_interval),
        "num_tokens": best.num_tokens,
        "loss": best.loss,
        "loss_interval": list(best.loss_interval),
        "law": best.law,
        "loss_difference": None,
        "compute_factor": None,
    }
    if prediction is not None and surface is not None:
        loss, low, high = (float(v[0]) for v in surface.loss_at(np.array([best.num_params]), best.num_tokens))
        found |= {"loss": loss, "loss_interval": [low, high], "loss_difference": prediction["loss"] - loss}
        found["compute_factor"] = _compute_factor(result, surface, choice.compute, prediction["loss"])
    return found


def _compute_factor(result: Result, surface: LossSurface, compute: float, loss: float) -> float | None:
    """Times less compute with which the optimum reaches the same loss; None where it is beyond what was fitted."""
    smaller = compute / np.geomspace(1.0, max(1.0, compute / result.laws.min_compute), 200)
    (n, _, _), (d, _, _) = result.laws.n_opt_band(smaller), result.laws.d_opt_band(smaller)
    optimal, _, _ = surface.loss_at(n, d)
    reached = np.flatnonzero(optimal <= loss)
    if len(reached) in (0, len(smaller)):
        return None if len(reached) else 1.0
    return float(compute / smaller[reached[-1]])


def _load(context: Context) -> tuple[Result | None, str]:
    left_out = context.facts("sweep").get("left_out")
    if left_out:
        return None, f"sweep and fit left out: {left_out}"
    try:
        result = load_result(context.root / SWEEP)
    except FitError as error:
        return None, f"the sweep supports no law: {error}"
    if result.laws.recommended is None:
        return None, f"the sweep supports no law: {result.laws.reason}"
    return result, ""


def _paid(compute: float, probe: ModelProbe, unit: int) -> int:
    """The tokens that ``compute`` pays for, in whole sequences."""
    return max(1, int(compute / flops_per_token(probe)) // unit) * unit
