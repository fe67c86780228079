"""The coverage that predictions quote counts each cut of a sweep once, and names the worst world."""

import numpy as np
from fitting import coverage_table
from fitting_real import Score


def score(group, kept, covered, law="default"):
    return Score(
        sweep="one", group=group, law=law, kept_compute=kept, reach=np.log10(1e20 / kept), error=0.1,
        covered=covered, log_width=0.5, loss_error=0.01, loss_covered=True,
    )  # fmt: skip


def cells(inside):
    return [{"n": np.array(row), "loss": np.array([True, True, False])} for row in inside]


def test_coverage_is_counted_once_per_cut_and_the_worst_world_is_named():
    # Two hidden budgets and one decade leave the same runs: one case.
    scores = [
        score("1", 3e19, True),
        score("2", 1e19, False),
        score(">=1.0", 1e19, False),
        score("1", 3e19, False, law="windowed"),
    ]
    worlds = {
        "kind": cells([[True, True, False], [True, True, False]]),
        "harsh": cells([[True, False, False], [True, False, False]]),
    }
    assert coverage_table(scores, worlds) == {
        "real": {"cases": 2, "n_opt": 0.5, "loss": 1.0, "reach_max": 10},
        # The third target, 1000 times, is not quoted.
        "worlds": {
            "count": 2,
            "sweeps": 4,
            "n_opt_mean": 0.75,
            "n_opt_worst": 0.0,
            "worst_world": "harsh",
            "loss_mean": 1.0,
            "reach": [10, 100],
        },
    }
