"""The table of measured coverage that predictions quote is installed, and holds what the benchmark writes."""

import json
from importlib import resources

import pytest
from worlds import ALL_WORLDS

TABLE = json.loads((resources.files("flops_fit.fitting") / "measured_coverage.json").read_text())


def test_the_table_quotes_published_sweeps_first_and_worlds_outside_the_family():
    assert list(TABLE) == ["real", "worlds"]
    assert set(TABLE["real"]) == {"cases", "n_opt", "loss", "reach_max"}
    # 17 sweeps with 1, 2 and 3 budgets hidden, and cuts of 1 to 2 decades.
    assert TABLE["real"]["cases"] >= 3 * 17
    assert TABLE["worlds"]["count"] == len(ALL_WORLDS)
    assert TABLE["worlds"]["worst_world"] in ALL_WORLDS
    assert TABLE["worlds"]["reach"] == [10, 100]


@pytest.mark.parametrize(
    ("part", "key"),
    [("real", "n_opt"), ("real", "loss"), *(("worlds", k) for k in ("n_opt_mean", "n_opt_worst", "loss_mean"))],
)
def test_a_coverage_is_a_share(part, key):
    assert 0.0 <= TABLE[part][key] <= 1.0


def test_the_worst_world_is_not_above_the_mean():
    assert TABLE["worlds"]["n_opt_worst"] <= TABLE["worlds"]["n_opt_mean"]
