"""Trunks: runs of one size, seed and recipe share their first steps, and each trains only the rest."""

from collections.abc import Sequence

from flops_fit.recipes.schedules import trunk_steps
from flops_fit.records import Experiment, content_id

TrunkRuns = tuple[Experiment, ...]
"""Runs of one trunk, shortest first."""


def trunk_id(experiment: Experiment) -> str:
    """Identifies the runs whose first steps are the same."""
    return content_id(
        size=experiment.size_param_value,
        seed=experiment.seed,
        tokens_per_sample=experiment.tokens_per_sample,
        recipe=experiment.recipe.content,
    )


def group_by_trunk(runs: Sequence[Experiment], *, share_trunks: bool) -> list[TrunkRuns]:
    """Returns the runs of each trunk, shortest first; without shared trunks each run has its own."""
    if not share_trunks:
        return [(run,) for run in runs]
    trunks: dict[str, TrunkRuns] = {}
    for run in sorted(runs, key=lambda e: e.num_tokens):
        trunks[trunk_id(run)] = (*trunks.get(trunk_id(run), ()), run)
    return list(trunks.values())


def order_by_trunk(runs: Sequence[Experiment]) -> list[Experiment]:
    """Sorts the runs of each trunk by length; each trunk keeps its positions in the order of the plan."""
    waiting = {trunk_id(trunk[0]): list(trunk) for trunk in group_by_trunk(runs, share_trunks=True)}
    return [waiting[trunk_id(run)].pop(0) for run in runs]


def own_steps(trunk: TrunkRuns) -> list[int]:
    """Returns how many steps each run of a trunk trains itself; the others come from the run before it."""
    common = [0, *(trunk_steps(e.recipe, e.num_tokens) for e in trunk[:-1])]
    return [run.num_steps - shared for run, shared in zip(trunk, common, strict=True)]
