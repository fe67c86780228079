"""Time left in a sweep, estimated from its finished runs.

seconds = steps * overhead + FLOPs / rate. Steps of small models are mostly overhead: a FLOP rate alone, measured on the
first runs of a sweep, overestimates the rest threefold (sweep=small).
"""

import time
from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from flops_fit.recipes.trunks import TrunkRuns, own_steps
from flops_fit.records import Experiment, FloatArray, RunResult

# Of one CPU thread in sweep=small. They order the runs and weight the fit; no reported number includes them.
SECONDS_PER_STEP = 3e-3
FLOPS_PER_SECOND = 5e10
# Two unknowns, and one more run against noise.
MIN_RUNS = 3


def rough_seconds(trunk: TrunkRuns) -> float:
    """Returns the time of a trunk on one CPU thread, to within a small factor: enough to start with the longest."""
    steps = own_steps(trunk)
    return sum(_rough(_work(e, n, eval_tokens=0)) for e, n in zip(trunk, steps, strict=True))


class TimeLeft:
    """Estimate of the time until the last run ends.

    Args:
        trunks: The runs to train.
        eval_tokens: Tokens of each run's held-out loss.
        workers: How many trunks are trained at a time.
    """

    def __init__(self, trunks: Sequence[TrunkRuns], *, eval_tokens: int, workers: int = 1) -> None:
        self._eval_tokens, self._workers = eval_tokens, workers
        self._trunks = [[e.experiment_id for e in trunk] for trunk in trunks]
        self._todo = {
            e.experiment_id: _work(e, steps, eval_tokens)
            for trunk in trunks
            for e, steps in zip(trunk, own_steps(trunk), strict=True)
        }
        self._started: dict[str, float] = {}
        self._works: list[FloatArray] = []
        self._seconds: list[float] = []

    def start(self, experiment_id: str) -> None:
        """Notes that a run has started in a worker."""
        self._started[experiment_id] = time.monotonic()

    def after(self, result: RunResult) -> float | None:
        """Records a finished run; returns the seconds until the last one ends, None while too few have."""
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
            name: max(float(work @ rates) - (now - self._started.get(name, now)), 0.0)
            for name, work in self._todo.items()
        }
        longest = max(sum(left.get(name, 0.0) for name in trunk) for trunk in self._trunks)
        return max(longest, sum(left.values()) / self._workers)

    def _rates(self) -> FloatArray:
        # Relative errors, so that short and long runs count alike; weighted by the work, not by the measured time,
        # which is too short for a resumed run.
        works = np.array(self._works)
        weights = 1 / np.array([_rough(work) for work in works])
        scale = (works * weights[:, None]).max(axis=0)
        solution, _ = nnls(works * weights[:, None] / scale, np.array(self._seconds) * weights)
        return np.asarray(solution / scale, dtype=np.float64)


def _work(experiment: Experiment, steps: int, eval_tokens: int) -> FloatArray:
    """Steps, and FLOPs including the evaluation, whose forward pass costs a third of training per token."""
    per_token = experiment.measured_flops_per_token or experiment.flops_per_token
    return np.array([steps, (steps * experiment.recipe.batch_tokens + eval_tokens / 3) * per_token])


def _rough(work: FloatArray) -> float:
    return float(work[0] * SECONDS_PER_STEP + work[1] / FLOPS_PER_SECOND)
