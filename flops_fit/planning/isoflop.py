"""IsoFLOP grid: the runs that show where the loss is lowest at each budget.

As in Hoffmann et al. 2022 (arXiv:2203.15556, section 3.2): at each budget C several sizes N,
each trained on D = C / k(N) tokens, k being the FLOPs per token.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flops_fit.errors import PlanError
from flops_fit.planning.feasibility import Pair, fewest_tokens, objection_to
from flops_fit.planning.recipe import recipe_for
from flops_fit.planning.settings import SweepSettings, flops_convention
from flops_fit.quantities import format_flops, log_spaced
from flops_fit.records import Experiment, ModelProbe, Recipe, Rejection, SweepPlan, content_id


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Model and data of a sweep, as plain values."""

    model_cls_name: str
    size_param: str
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    task_name: str = ""
    task_fingerprint: str = ""
    tokens_per_sample: int = 1
    """D is a multiple of this."""
    unique_tokens: int | None = None
    """Distinct training tokens; None if unknown."""
    data_unit: str = "tokens"


def plan_isoflop(
    probes: Sequence[ModelProbe],
    settings: SweepSettings,
    subject: Subject,
    *,
    rejected: Sequence[Rejection] = (),
    seed: int = 0,
) -> SweepPlan:
    """Lays the IsoFLOP grid over the probed sizes.

    Args:
        probes: Usable sizes.
        settings: Budgets, sizes per budget, FLOPs convention, limits and recipe.
        subject: What is being scaled.
        rejected: Sizes that could not be built, kept in the plan.
        seed: First of the ``num_seeds`` seeds.

    Raises:
        PlanError: If there is no budget, or a budget for which no size is feasible.
    """
    budgets = tuple(sorted(set(settings.compute_budgets)))
    if not budgets:
        raise PlanError("compute_budgets: got none, expected at least one (5 or more for a fit), such as [1e17, 1e18].")
    experiments: list[Experiment] = []
    all_rejected: list[Rejection] = list(rejected)
    for budget in budgets:
        feasible, infeasible = _feasible_pairs(budget, probes, settings, subject)
        all_rejected += infeasible
        if not feasible:
            raise _nothing_fits(budget, probes, settings, subject, infeasible)
        experiments += [
            make_experiment(
                compute_budget=budget,
                probe=probe,
                num_tokens=tokens,
                subject=subject,
                seed=seed + offset,
                recipe=recipe_for(settings.recipe, probe, subject.tokens_per_sample),
                flops_per_token=_flops_per_token(probe, settings),
            )
            for probe, tokens in _spread(feasible, settings)
            for offset in range(settings.num_seeds)
        ]
    return SweepPlan(
        experiments=tuple(experiments),
        rejected=tuple(all_rejected),
        model_cls_name=subject.model_cls_name,
        size_param=subject.size_param,
        compute_budgets=budgets,
        model_kwargs=dict(subject.model_kwargs),
        flops_convention=flops_convention(settings),
        task_name=subject.task_name,
        task_fingerprint=subject.task_fingerprint,
        data_unit=subject.data_unit,
    )


def make_experiment(
    *,
    compute_budget: float,
    probe: ModelProbe,
    num_tokens: int,
    recipe: Recipe,
    flops_per_token: float,
    subject: Subject,
    seed: int,
) -> Experiment:
    """Decides one run; its id is the hash of all that changes its loss."""
    return Experiment(
        experiment_id=content_id(
            task=subject.task_fingerprint,
            size={subject.size_param: probe.size_param_value},
            compute_budget=compute_budget,
            num_tokens=num_tokens,
            recipe=recipe.content,
            seed=seed,
        ),
        compute_budget=compute_budget,
        size_param_value=probe.size_param_value,
        num_params=probe.num_params,
        num_params_non_embedding=probe.num_params_non_embedding,
        num_tokens=num_tokens,
        flops_per_token=flops_per_token,
        measured_flops_per_token=probe.flops_per_token,
        measured_flops_per_token_causal=probe.flops_per_token_causal,
        tokens_per_sample=subject.tokens_per_sample,
        recipe=recipe,
        seed=seed,
    )


def _feasible_pairs(
    budget: float,
    probes: Sequence[ModelProbe],
    settings: SweepSettings,
    subject: Subject,
) -> tuple[list[tuple[ModelProbe, int]], list[Rejection]]:
    feasible: list[tuple[ModelProbe, int]] = []
    rejected: list[Rejection] = []
    for probe in sorted(probes, key=lambda p: p.num_params):
        unit = subject.tokens_per_sample
        tokens = math.floor(budget / _flops_per_token(probe, settings) / unit) * unit
        objection = objection_to(_pair(probe, tokens, settings, subject), settings.limits)
        if objection is None:
            feasible.append((probe, tokens))
        else:
            rejected.append(
                Rejection(
                    size_param_value=probe.size_param_value,
                    reason=objection.reason,
                    compute_budget=budget,
                    code=objection.code,
                )
            )
    return feasible, rejected


def _pair(probe: ModelProbe, tokens: int, settings: SweepSettings, subject: Subject) -> Pair:
    return Pair(
        num_params=probe.num_params,
        num_tokens=tokens,
        recipe=recipe_for(settings.recipe, probe, subject.tokens_per_sample),
        unique_tokens=subject.unique_tokens,
        data_unit=subject.data_unit,
    )


def _nothing_fits(
    budget: float,
    probes: Sequence[ModelProbe],
    settings: SweepSettings,
    subject: Subject,
    rejected: Sequence[Rejection],
) -> PlanError:
    size, (first, last) = subject.size_param, (rejected[0], rejected[-1])
    smallest = _smallest_budget(probes, settings, subject)
    if smallest is None:
        advice = "No budget fits these sizes and limits. Change the sizes, the limits or the data."
    elif smallest > budget:
        advice = (
            f"The smallest budget that fits is {format_flops(smallest)}. "
            f"Raise the budget to it ({_comfortable(probes[0], settings)}), add smaller sizes (min_size is "
            f"{settings.min_size}, size_multiple {settings.size_multiple}), or loosen the limit."
        )
    else:
        advice = (
            f"The smallest budget that fits is {format_flops(smallest)}. "
            "Lower the budget, add larger sizes or more data, or loosen the limit."
        )
    largest = "" if first is last else f"; the largest, {size}={last.size_param_value}, {last.reason}"
    return PlanError(
        f"no model size fits compute_budget={format_flops(budget)} FLOPs: "
        f"the smallest, {size}={first.size_param_value}, {first.reason}{largest}. {advice}"
    )


def _comfortable(probe: ModelProbe, settings: SweepSettings) -> str:
    """The budget at which a size lies at the guessed optimum: the least that fits sees far too little data."""
    ratio = settings.center_tokens_per_param
    budget = _flops_per_token(probe, settings) * ratio * probe.num_params
    return f"at {ratio:g} tokens per parameter, the smallest size takes {format_flops(budget)}"


def _smallest_budget(probes: Sequence[ModelProbe], settings: SweepSettings, subject: Subject) -> float | None:
    """The smallest budget at which any size is feasible, rounded up to the three digits that messages show."""
    unit = subject.tokens_per_sample
    budgets = []
    for probe in probes:
        tokens = fewest_tokens(_pair(probe, 0, settings, subject), settings.limits, unit)
        if tokens is not None:
            budgets.append(_flops_per_token(probe, settings) * tokens)
    if not budgets:
        return None
    # The planner divides by FLOPs per token and rounds down: leave room for the last bits of that.
    smallest = min(budgets) * (1 + 1e-9)
    digit = 10.0 ** (math.floor(math.log10(smallest)) - 2)
    return math.ceil(smallest / digit) * digit


def _flops_per_token(probe: ModelProbe, settings: SweepSettings) -> float:
    f = settings.flops_per_param_per_token
    if f != "measured":
        return float(f) * probe.num_params
    if probe.flops_per_token is None:
        raise PlanError(
            f"flops_per_param_per_token='measured', but the FLOPs of size {probe.size_param_value} "
            "were not measured. Give a data set to measure on, a flops_per_token() method, or a number (6)."
        )
    return probe.flops_per_token


def _spread(feasible: list[tuple[ModelProbe, int]], settings: SweepSettings) -> list[tuple[ModelProbe, int]]:
    """Takes num_sizes_per_budget sizes, evenly spaced in log N, around the guessed optimum.

    A grid of +-8x around a guess needs 3 to 30 times fewer FLOPs for equal error than one over all feasible
    sizes (simulated; the guess may be wrong by that factor).
    """
    count = settings.num_sizes_per_budget
    log_ratio = [math.log(tokens / probe.num_params) for probe, tokens in feasible]
    # At fixed C, D/N falls as N^-2, so a factor w in N is w^2 in D/N.
    distance = [abs(r - math.log(settings.center_tokens_per_param)) / 2 for r in log_ratio]
    inside = [c for c, d in zip(feasible, distance, strict=True) if d <= math.log(settings.half_width)]
    if len(inside) < count:
        nearest = sorted(range(len(feasible)), key=distance.__getitem__)[:count]
        return [feasible[i] for i in sorted(nearest)]
    ideal = log_spaced(inside[0][0].num_params, inside[-1][0].num_params, count)
    chosen: set[int] = set()
    for target in ideal:
        free = (i for i in range(len(inside)) if i not in chosen)
        chosen.add(min(free, key=lambda i: abs(math.log(inside[i][0].num_params / target))))
    return [inside[i] for i in sorted(chosen)]
