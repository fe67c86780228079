"""How long will runs take?

seconds = steps * overhead + FLOPs / rate. Steps of small models are mostly overhead, so that a rate of FLOPs alone,
read off the first runs of a sweep, says three times too much for the rest of it (measured on sweep=small).
"""

import time
from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from flops_fit.records import Experiment, FloatArray, RunResult
from flops_fit.training.trunks import TrunkRuns, own_steps

# Of one CPU thread in sweep=small; they order the runs and weigh the fit, and are in no number that is shown.
SECONDS_PER_STEP = 3e-3
FLOPS_PER_SECOND = 5e10
# Two unknowns, and one run to tell them from noise.
MIN_RUNS = 3


def rough_seconds(chain: TrunkRuns) -> float:
    """Returns what a chain would take on one CPU thread, to a factor of some: enough to begin with the longest."""
    steps = own_steps(chain)
    return sum(_rough(_work(e, n, eval_tokens=0)) for e, n in zip(chain, steps, strict=True))


class TimeLeft:
    """What the runs without a result will take, from those that have one.

    Args:
        chains: What is to be made.
        eval_tokens: Of the held-out loss of each run.
        workers: How many chains are made at a time.
    """

    def __init__(self, chains: Sequence[TrunkRuns], *, eval_tokens: int, workers: int = 1) -> None:
        self._eval_tokens, self._workers = eval_tokens, workers
        self._chains = [[e.experiment_id for e in chain] for chain in chains]
        self._todo = {
            e.experiment_id: _work(e, steps, eval_tokens)
            for chain in chains
            for e, steps in zip(chain, own_steps(chain), strict=True)
        }
        self._begun: dict[str, float] = {}
        self._works: list[FloatArray] = []
        self._seconds: list[float] = []

    def begin(self, experiment_id: str) -> None:
        """Notes that a run has begun beside others."""
        self._begun[experiment_id] = time.monotonic()

    def after(self, result: RunResult) -> float | None:
        """Takes a finished run into account; returns the seconds until the last one ends, None while too few have."""
        self._todo.pop(result.experiment.experiment_id, None)
        if result.status != "failed":
            steps = result.steps - result.steps_from_trunk
            self._works.append(_work(result.experiment, steps, self._eval_tokens))
            self._seconds.append(result.wall_seconds)
        if len(self._works) < MIN_RUNS:
            return None
        rates = self._rates()
        now = time.monotonic()
        left = {
            name: max(float(work @ rates) - (now - self._begun.get(name, now)), 0.0)
            for name, work in self._todo.items()
        }
        longest = max(sum(left.get(name, 0.0) for name in chain) for chain in self._chains)
        return max(longest, sum(left.values()) / self._workers)

    def _rates(self) -> FloatArray:
        # Short and long runs count alike. A resumed run took less than its steps say, so it is not weighed by that.
        works = np.array(self._works)
        weights = 1 / np.array([_rough(work) for work in works])
        scale = (works * weights[:, None]).max(axis=0)
        solution, _ = nnls(works * weights[:, None] / scale, np.array(self._seconds) * weights)
        return np.asarray(solution / scale, dtype=np.float64)


def _work(experiment: Experiment, steps: int, eval_tokens: int) -> FloatArray:
    """Steps, and FLOPs with those of the evaluation, a forward pass that costs a third of a training step's."""
    per_token = experiment.measured_flops_per_token or experiment.flops_per_token
    return np.array([steps, (steps * experiment.recipe.batch_tokens + eval_tokens / 3) * per_token])


def _rough(work: FloatArray) -> float:
    return float(work[0] * SECONDS_PER_STEP + work[1] / FLOPS_PER_SECOND)
