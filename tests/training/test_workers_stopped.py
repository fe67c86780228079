"""A sweep by two workers is stopped in all ways there are: no process is left, nothing is lost, and it goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import REPO

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for a process' children")

TESTS = REPO / "tests"
SWEEP = [
    "task.factory=moody:build", "task.options.mood=Waiting", "sweep.compute_budgets=[2e6,4e6,8e6]",
    "sweep.min_size=4", "sweep.max_size=16", "sweep.size_multiple=4", "sweep.num_sizes_per_budget=3",
    "sweep.limits.min_tokens_per_param=0.1", "sweep.recipe.batch_tokens=128",
]  # fmt: skip
ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS / "training")))}


def wait_until(claim, seconds=60):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def flops_fit(*arguments):
    # A shell that starts tests in the background lets them ignore Ctrl-C, and what they start too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "flops_fit", *arguments], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("stopped_by", "code", "next_workers"),
    [
        pytest.param(signal.SIGINT, 130, "2", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 75, "1", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, "auto", marks=pytest.mark.slow),
    ],
)
def test_no_worker_outlives_its_command_and_the_next_one_goes_on(tmp_path, stopped_by, code, next_workers):
    folder, pids = tmp_path / "sweep", tmp_path / "pids"
    command = flops_fit("run", *SWEEP, f"task.options.folder={tmp_path}", "train.workers=2", f"out={folder}")
    wait_until(lambda: (pids.exists() and any(pids.iterdir())) or command.poll() is not None)
    workers = [int(p) for p in Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()]
    assert int(next(pids.iterdir()).name) in workers
    command.send_signal(stopped_by)
    out, err = command.communicate(timeout=60)
    assert command.returncode == code, err
    assert "Traceback" not in err
    assert out == ""
    wait_until(lambda: not any(map(is_alive, workers)), 10)

    (tmp_path / "go").touch()
    again = flops_fit("train", str(folder), "--workers", next_workers, "--json")
    out, err = again.communicate(timeout=100)
    assert again.returncode == 0, err
    counts = json.loads(out)
    assert (counts["completed"], counts["pending"]) == (9, 0)
    assert "a line of the model's own" in err


@pytest.mark.parametrize("workers", ["0", "-1", "abc", "1.5", ""])
def test_a_wrong_number_is_refused_before_anything_is_trained(tmp_path, capsys, workers, monkeypatch):
    from flops_fit import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("task: {factory: 'moody:build'}\nsweep: {}\ntrain: {}\nfit: {}\n")
    for argv in (["train", ".", "--workers", workers], ["run", f"train.workers={workers or 'null'}"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(argv)
        assert stop.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "train.workers: got" in err
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]
