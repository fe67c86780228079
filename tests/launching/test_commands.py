"""What `flops-fit train --launcher` starts and submits: words, scripts and refusals."""

from pathlib import Path

import pytest
from support import REPO

from flops_fit.errors import ConfigError, LaunchError
from flops_fit.launching import LaunchOptions, batch_job, launcher_command, submit

DIR = Path("/data/my sweep")
STEP = {"SLURM_STEP_NUM_NODES": "3", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NODEID": "2"}


def options(**changes):
    return LaunchOptions(**{"directory": DIR, "launcher": "torchrun", "processes": 2} | changes)


def batch_options(**changes):
    return options(**{"launcher": "slurm", "processes": None} | changes)


def words_after(argv, word):
    return argv[argv.index(word) + 1 :]


def test_torchrun_starts_the_processes_of_one_machine_on_a_free_port():
    command = launcher_command(options(train_options=("--retry-failed",)), {}, python="py")
    assert command.argv == (
        "py", "-m", "torch.distributed.run", "--standalone", "--nnodes", "1", "--nproc-per-node", "2",
        "-m", "flops_fit", "train", "/data/my sweep", "--retry-failed",
    )  # fmt: skip
    assert "ACCELERATE_USE_FSDP" not in command.environment


def test_torchrun_joins_the_nodes_of_a_slurm_step():
    command = launcher_command(options(), STEP | {"MASTER_ADDR": "n1", "MASTER_PORT": "20001"})
    assert words_after(command.argv, "torch.distributed.run")[:8] == (
        "--nnodes", "3", "--node-rank", "2", "--master-addr", "n1", "--master-port", "20001",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "environment", "message"),
    [
        ({}, STEP, "MASTER_ADDR and MASTER_PORT do not say"),
        ({}, STEP | {"SLURM_STEP_NUM_TASKS": "6"}, "6 tasks on 3 nodes.*--ntasks-per-node=1"),
        ({"launcher": "accelerate"}, STEP, "3 nodes, expected one. Use --launcher torchrun"),
    ],
)
def test_a_step_of_several_nodes_that_cannot_be_joined_is_refused(changes, environment, message):
    with pytest.raises(ConfigError, match=message):
        launcher_command(options(**changes), environment)


@pytest.mark.parametrize(("sharded", "name"), [(False, "ddp.yaml"), (True, "fsdp.yaml")])
def test_accelerate_is_started_with_a_shipped_configuration(sharded, name):
    command = launcher_command(options(launcher="accelerate", sharded=sharded), {})
    config, *rest = words_after(command.argv, "--config_file")
    assert Path(config).samefile(REPO / "launch" / "accelerate" / name)
    assert rest[:2] == ["--num_processes", "2"]


def test_torchrun_shards_where_that_is_asked_for():
    assert launcher_command(options(sharded=True), {}).environment["ACCELERATE_USE_FSDP"] == "true"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"launcher": "torchrn"}, "Did you mean 'torchrun'"),
        ({"launcher": "local"}, "--processes: got --launcher local.*--launcher torchrun"),
        ({"launcher": "local", "processes": None, "sharded": True}, "--sharded: got --launcher local"),
        ({"processes": None}, "was not told how many. Add --processes N"),
        ({"processes": 0}, "--processes: got 0, expected 1 or more"),
        ({"launcher": "accelerate", "processes": 1}, "expected 2 or more. One process needs no launcher"),
        ({"nodes": 2}, "--nodes 2: it belongs to --launcher slurm, got --launcher torchrun"),
        ({"gpus": 0}, "--gpus 0: it belongs to --launcher slurm"),
        ({"time": "10"}, "--time 10: it belongs"),
        ({"launcher": "slurm", "array": 4}, "Give one of the two"),
        ({"launcher": "slurm", "processes": None, "sharded": True}, "a worker of an array is one process"),
        ({"launcher": "slurm", "processes": None, "array": 0}, "--array: got 0, expected 1 or more"),
        ({"launcher": "slurm", "gpus": -1}, "--gpus: got -1, expected 0 or more"),
        ({"launcher": "slurm", "time": "4h"}, "--time: got '4h'"),
        ({"launcher": "slurm", "time": "1\n#SBATCH --x"}, "--time: got"),
        ({"launcher": "slurm", "partition": "a b"}, "--partition: got 'a b'"),
    ],
)
def test_options_without_a_meaning_are_refused_with_what_to_do(changes, message):
    with pytest.raises(ConfigError, match=message):
        options(**changes)


@pytest.mark.parametrize("time", ["90", "90:00", "04:00:00", "2-12", "2-12:30", "2-12:30:00"])
def test_each_way_in_which_slurm_writes_a_time_is_taken(time):
    assert batch_options(time=time).time == time


@pytest.mark.parametrize("changes", [{"array": 4}, {"nodes": 2}], ids=["array", "multi_node"])
def test_without_options_the_script_is_the_shipped_one(changes):
    job = batch_job(batch_options(**changes), python="py")
    shipped = (REPO / "launch" / "slurm" / job.path.name).read_text()
    assert job.text.replace("PYTHON=py\n", "PYTHON=${PYTHON:-python}\n") == shipped


def test_no_gpus_means_no_line_that_asks_for_them():
    assert "gpus" in batch_job(batch_options(nodes=2, processes=2)).text.partition("DIR=")[0].split("#SBATCH", 1)[1]
    job = batch_job(batch_options(nodes=2, processes=2, gpus=0))
    assert "#SBATCH --gpus-per-node" not in job.text
    assert job.argv[-2:] == ("--processes", "2")


def test_an_interpreter_in_a_folder_with_a_blank_is_quoted():
    assert "\nPYTHON='/my env/python'\n" in batch_job(batch_options(), python="/my env/python").text


def test_a_percent_sign_in_the_folder_is_none_of_slurms_patterns():
    argv = batch_job(batch_options(directory=Path("/data/50%a"))).argv
    assert words_after(argv, "--output")[0] == "/data/50%%a/slurm/%A_%a.out"


def test_a_machine_without_slurm_says_so_and_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match=r"sbatch is not on PATH.*--dry-run"):
        submit(batch_job(batch_options(directory=tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_what_sbatch_says_reaches_the_user(monkeypatch, tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'Invalid account' >&2; exit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(LaunchError, match=r"Invalid account.*SBATCH_ACCOUNT"):
        submit(batch_job(batch_options(directory=tmp_path / "sweep")))
