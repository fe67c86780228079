"""The shipped batch scripts on a real SLURM cluster: each way to end, and the same results after it."""

import json

import pytest
from conftest import losses_of
from support import REPO

pytestmark = pytest.mark.slow

SCRIPTS = REPO / "launch" / "slurm"


def test_an_array_of_workers_shares_one_sweep(cluster, sweep, losses):
    job = cluster.submit(SCRIPTS / "array.sbatch", sweep)
    assert set(cluster.wait_for_end(job)) == {"COMPLETED"}
    assert losses_of(sweep) == losses


def test_ranks_on_two_nodes_train_each_run_together(cluster, sweep, two_rank_losses):
    job = cluster.submit("--gpus-per-node=1", SCRIPTS / "multi_node.sbatch", sweep)
    assert cluster.wait_for_end(job) == ["COMPLETED"]
    assert losses_of(sweep) == two_rank_losses
    sizes = {json.loads(p.read_text())["environment"]["world_size"] for p in (sweep / "results").glob("*.json")}
    assert sizes == {2}
