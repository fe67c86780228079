"""The shipped batch scripts on a real SLURM cluster: each way to be interrupted, and the same results after it.

Options of sbatch before the script only make a test short: the files are submitted as they are.
"""

import json
import sys
import time

import pytest
from conftest import losses_of, planned
from support import REPO

pytestmark = pytest.mark.slow

ARRAY = REPO / "launch" / "slurm" / "array.sbatch"
MULTI_NODE = REPO / "launch" / "slurm" / "multi_node.sbatch"
TWO_RANKS = ("--gpus-per-node=1", MULTI_NODE)


def test_an_array_of_workers_shares_one_sweep(cluster, sweep, losses):
    job = cluster.submit(ARRAY, sweep)
    assert set(cluster.wait_for_end(job)) == {"COMPLETED"}
    assert losses_of(sweep) == losses
    # Each run was taken once, and by several workers.
    claims = claims_of(sweep)
    assert sorted(claim["experiment_id"] for claim in claims) == sorted(losses)
    assert len({claim["worker"]["worker_id"] for claim in claims}) > 1


def test_ranks_on_two_nodes_train_each_run_together(cluster, sweep, two_rank_losses):
    job = cluster.submit(*TWO_RANKS, sweep)
    assert cluster.wait_for_end(job) == ["COMPLETED"]
    assert losses_of(sweep) == two_rank_losses
    assert world_sizes(sweep) == {2}


def test_a_preempted_array_goes_on_and_ends_with_the_same_results(cluster, sweep, losses, pace):
    pace(0.001)
    job = cluster.submit("--array=0-1", ARRAY, sweep)
    cluster.wait(lambda: len(training(sweep)) == 2)
    pace(0)
    preempt(cluster)
    assert cluster.wait_for_end(job) == ["COMPLETED", "COMPLETED"]
    assert restarts(cluster, job, 2) >= 1
    assert "preempted" in ends_of(sweep)
    assert losses_of(sweep) == losses


def test_preempted_ranks_go_on_and_end_with_the_same_results(cluster, sweep, two_rank_losses, pace):
    pace(0.001)
    job = cluster.submit(*TWO_RANKS, sweep)
    cluster.wait(lambda: training(sweep))
    pace(0)
    preempt(cluster)
    assert cluster.wait_for_end(job) == ["COMPLETED"]
    assert restarts(cluster, job) >= 1
    assert ends_of(sweep) == ["preempted"]
    assert losses_of(sweep) == two_rank_losses


def test_a_time_limit_is_met_with_a_checkpoint_and_a_requeue(
    cluster, reference, tmp_path, losses, two_rank_losses, pace
):
    """SLURM counts limits in minutes, and signals between 90 and 30 s before this one."""
    pace(0.003)
    limit = ("--time=2", "--signal=TERM@30", "--cpus-per-task=1")
    worker, ranks = (planned(reference, tmp_path / name) for name in ("worker", "ranks"))
    jobs = [cluster.submit(*limit, "--array=0", ARRAY, worker), cluster.submit(*limit, *TWO_RANKS, ranks)]
    cluster.wait(lambda: ends_of(worker) and ends_of(ranks), seconds=150)
    pace(0)
    assert [cluster.wait_for_end(job) for job in jobs] == [["COMPLETED"], ["COMPLETED"]]
    assert ends_of(worker) == ends_of(ranks) == ["preempted"]
    assert restarts(cluster, jobs[0], 1) == restarts(cluster, jobs[1]) == 1
    assert losses_of(worker) == losses
    assert losses_of(ranks) == two_rank_losses


def test_the_death_of_a_node_leaves_its_runs_to_the_others(cluster, sweep, losses, pace):
    pace(0.0003)
    job = cluster.submit("--array=0-1", "--cpus-per-task=4", ARRAY, sweep)
    cluster.wait(lambda: len(training(sweep)) == 2)
    pace(0)
    cluster.kill_node("n2")
    try:
        assert cluster.wait_for_end(job) == ["COMPLETED", "COMPLETED"]
    finally:
        cluster.start_node("n2")
    assert restarts(cluster, job, 2) == 1
    assert losses_of(sweep) == losses


def test_ranks_go_on_when_a_dead_node_is_back(cluster, sweep, two_rank_losses, pace):
    pace(0.001)
    job = cluster.submit(*TWO_RANKS, sweep)
    cluster.wait(lambda: training(sweep))
    pace(0)
    cluster.kill_node("n2")
    cluster.wait(lambda: restarts(cluster, job) == 1, seconds=120)
    cluster.start_node("n2")
    assert cluster.wait_for_end(job) == ["COMPLETED"]
    assert losses_of(sweep) == two_rank_losses


def test_a_job_that_is_cancelled_is_not_requeued(cluster, sweep, pace):
    """Submitted by the command itself."""
    pace(0.001)
    train = (sys.executable, "-m", "flops_fit", "train", sweep, "--launcher", "slurm")
    job = cluster.run(*train, "--array", 1, "--time", "00:30:00").strip()
    cluster.wait(lambda: training(sweep))
    assert cluster.job(job)["TimeLimit"] == "00:30:00"
    assert [path.name for path in (sweep / "slurm").glob("*.out")] == [f"{job}_0.out"]
    cluster.run("scancel", job)
    assert cluster.wait_for_end(job) == ["CANCELLED"]
    time.sleep(3)
    assert cluster.states(job) == ["CANCELLED"]


def preempt(cluster):
    """Takes both nodes for a moment, with a job of a partition that goes first."""
    cluster.submit("-p", "high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")


def training(sweep):
    """The runs that have a checkpoint."""
    return {path.parts[-4] for path in sweep.glob("runs/*/checkpoints/step-*/manifest.json")}


def restarts(cluster, job, tasks=0):
    names = [f"{job}_{i}" for i in range(tasks)] or [job]
    return sum(int(cluster.job(name)["Restarts"]) for name in names)


def claims_of(sweep):
    return [json.loads(path.read_text()) for path in (sweep / "claims").glob("*.json")]


def ends_of(sweep):
    """How the attempts at runs that ended without a result did."""
    return [json.loads(path.read_text())["status"] for path in (sweep / "ends").glob("*.json")]


def world_sizes(sweep):
    return {json.loads(p.read_text())["environment"]["world_size"] for p in (sweep / "results").glob("*.json")}
