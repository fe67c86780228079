"""Which runs go on from one another, and what does each of them add?"""

from collections.abc import Sequence

from flops_fit.records import Experiment, content_id
from flops_fit.schema import to_plain
from flops_fit.training.schedules import steps_without_end

TrunkRuns = tuple[Experiment, ...]


def trunk_id(experiment: Experiment) -> str:
    """Identifies the runs whose first steps are the same."""
    return content_id(
        size=experiment.size_param_value,
        seed=experiment.seed,
        tokens_per_sample=experiment.tokens_per_sample,
        recipe=to_plain(experiment.recipe),
    )


def group_by_trunk(runs: Sequence[Experiment], *, share_trunks: bool) -> list[TrunkRuns]:
    """Returns the runs of each trunk, shortest first; without shared trunks each run is a chain of its own."""
    if not share_trunks:
        return [(run,) for run in runs]
    chains: dict[str, TrunkRuns] = {}
    for run in sorted(runs, key=lambda e: e.num_tokens):
        chains[trunk_id(run)] = (*chains.get(trunk_id(run), ()), run)
    return list(chains.values())


def order_by_trunk(runs: Sequence[Experiment]) -> list[Experiment]:
    """Sorts the runs of each trunk by length; each trunk keeps its places in the order of the plan."""
    waiting = {trunk_id(chain[0]): list(chain) for chain in group_by_trunk(runs, share_trunks=True)}
    return [waiting[trunk_id(run)].pop(0) for run in runs]


def own_steps(chain: TrunkRuns) -> list[int]:
    """Returns how many steps each run of a chain makes itself; the others are taken over from the run before it."""
    common = [0, *(steps_without_end(e.recipe, e.num_tokens) for e in chain[:-1])]
    return [run.num_steps - taken for run, taken in zip(chain, common, strict=True)]
