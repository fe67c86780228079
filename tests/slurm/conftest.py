"""The cluster, and sweeps of seconds with the results of one process and of two ranks."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from cluster import PYTHONPATH, Cluster, missing_programs

# Half a minute of training on one core: 8 runs of 4 to 8 sizes, 93,408 samples.
SWEEP = [
    "task.factory=paced:paced_chain", "task.options={}", "sweep=smoke", "sweep.compute_budgets=[1e9,2e9]",
    "sweep.num_sizes_per_budget=4", "sweep.max_size=64", "sweep.limits.max_epochs=100", "train.precision=fp32",
    "train.micro_batch_samples=16", "train.checkpoint_seconds=0.5",
]  # fmt: skip
ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A running SLURM cluster of two nodes; without SLURM's packages the test is skipped."""
    missing = missing_programs()
    if missing or sys.platform != "linux":
        pytest.skip(f"no SLURM here: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge; .ci/run)")
    if os.getuid() != 0:
        pytest.skip("the test cluster's daemons run as root")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """The sweep, trained by one process without an interruption."""
    folder = tmp_path_factory.mktemp("reference") / "sweep"
    command([sys.executable, "-m", "flops_fit", "run", *SWEEP, f"out={folder}"])
    return folder


@pytest.fixture
def sweep(reference, tmp_path):
    """The same sweep, planned and not trained."""
    return planned(reference, tmp_path / "sweep")


@pytest.fixture
def pace(cluster, tmp_path, monkeypatch):
    """Sets how many seconds a sample takes in the processes that start from now on."""
    file = tmp_path / "pace"
    monkeypatch.setitem(cluster.env, "PACE_FILE", str(file))

    def set_pace(seconds: float) -> None:
        file.write_text(str(seconds))

    return set_pace


@pytest.fixture(scope="session")
def losses(reference):
    return losses_of(reference)


@pytest.fixture(scope="session")
def two_rank_losses(reference, tmp_path_factory):
    """Those of two ranks without an interruption, which sum in another order than one process."""
    folder = planned(reference, tmp_path_factory.mktemp("two_ranks") / "sweep")
    command([sys.executable, "-m", "flops_fit", "train", folder, "--launcher", "torchrun", "--processes", "2"])
    return losses_of(folder)


def planned(reference, folder):
    folder.mkdir()
    for name in ("config.yaml", "plan.json"):
        shutil.copy(reference / name, folder)
    if (reference / "plans").is_dir():
        shutil.copytree(reference / "plans", folder / "plans")
    return folder


def losses_of(folder):
    """Loss of each run, to the bit."""
    found = [json.loads(path.read_text()) for path in (folder / "results").glob("*.json")]
    assert all(r["status"] == "completed" for r in found)
    return {r["experiment"]["experiment_id"]: r["loss"] for r in found}


def command(argv):
    done = subprocess.run(argv, capture_output=True, text=True, env=ENV, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
