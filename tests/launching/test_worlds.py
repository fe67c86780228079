"""Each way in which a user starts two processes: two ranks, or an error that says what to type."""

import os
import shlex
import subprocess
import sys

import pytest
from support import REPO

from flops_fit.announced import refuse_silent_launchers
from flops_fit.errors import LaunchError

CONFIGS = REPO / "launch" / "accelerate"
# One write each, or the two lines mix.
SCRIPT = """
import os
from flops_fit.distributed import open_world
with open_world() as world:
    os.write(1, f"RANK {world.rank} {world.size}\\n".encode())
"""
# What `accelerate config` writes for two processes on CPU.
MULTI_CPU = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nuse_cpu: true\nnum_machines: 1\n"
ACCELERATE = "-m accelerate.commands.launch"
QUIET = "--num_machines 1 --mixed_precision no --dynamo_backend no"


def ranks(tmp_path, launcher):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "multi_cpu.yaml").write_text(f"{MULTI_CPU}num_processes: 2\nmixed_precision: 'no'\n")
    done = subprocess.run(
        [sys.executable, *shlex.split(launcher), "script.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = sorted(line for line in done.stdout.splitlines() if line.startswith("RANK"))
    return found, done.stderr, done.returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        "-m torch.distributed.run --nproc_per_node 2",
        "-m torch.distributed.run --standalone --nnodes 1 --nproc-per-node 2",
        f"{ACCELERATE} --multi_gpu --num_processes 2 {QUIET}",
        f"{ACCELERATE} --config_file {CONFIGS}/cpu.yaml",
        f"{ACCELERATE} --config_file {CONFIGS}/ddp.yaml --num_processes 2",
        f"{ACCELERATE} --config_file {CONFIGS}/fsdp.yaml --num_processes 2",
    ],
)
def test_two_processes_know_of_each_other(tmp_path, launcher):
    found, err, code = ranks(tmp_path, launcher)
    assert (found, code) == (["RANK 0 2", "RANK 1 2"], 0), err[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "asked"),
    [
        (f"{ACCELERATE} --cpu --num_processes 2 {QUIET}", "2"),
        (f"{ACCELERATE} --num_processes 2 {QUIET}", "2"),
        (f"{ACCELERATE} --config_file multi_cpu.yaml", "several"),
        (f"{ACCELERATE} --config_file {CONFIGS}/single_gpu.yaml --num_processes=2", "2"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="reads the launcher's command line from /proc")
def test_a_launcher_that_starts_one_process_for_two_is_refused(tmp_path, launcher, asked):
    found, err, code = ranks(tmp_path, launcher)
    assert (found, code) == ([], 1)
    assert f"was asked for {asked} processes and has started one" in err
    assert "--launcher torchrun --processes N" in err


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [f"{ACCELERATE} --config_file {CONFIGS}/single_gpu.yaml", f"{ACCELERATE} --cpu"])
def test_a_launcher_that_was_asked_for_one_process_is_not_refused(tmp_path, launcher):
    found, err, code = ranks(tmp_path, launcher)
    assert (found, code) == (["RANK 0 1"], 0), err[-3000:]


@pytest.fixture
def no_launcher(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "MASTER_", "SLURM_", "OMPI_", "PMI_", "MV2_")) or name == "WORLD_SIZE":
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_launcher")
def test_tasks_of_srun_that_do_not_know_of_each_other_are_refused(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(LaunchError, match=r"srun started 4 tasks.*--launcher slurm --array N"):
        refuse_silent_launchers()


@pytest.mark.usefixtures("no_launcher")
@pytest.mark.parametrize(
    "environment",
    [
        {},
        # An array's worker, an interactive shell (`srun --pty bash`), a batch script that starts no step.
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0"},
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
        # A rank of torchrun, which srun started once on each of two nodes.
        {"SLURM_STEP_NUM_TASKS": "2", "WORLD_SIZE": "8", "RANK": "3"},
        # Left in a shell by hand, without `accelerate launch`.
        {"MASTER_ADDR": "n1", "MASTER_PORT": "20000"},
    ],
)
def test_a_process_that_is_alone_or_knows_the_others_is_not_refused(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    refuse_silent_launchers()
