"""A launcher that flattens exit codes, told to stop, killed: what the command makes of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flops_fit.errors import LaunchError
from flops_fit.launching import Command, run_command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and process groups")

# As torchrun does: starts processes, returns 1 for any code of theirs, and passes SIGTERM on.
LAUNCHER = """
import os, signal, subprocess, sys
child = '''
import os, pathlib, sys
pathlib.Path(os.environ["FLOPS_FIT_EXIT_CODES"], str(os.getpid())).write_text(sys.argv[1])
'''
for code in sys.argv[1:]:
    subprocess.run([sys.executable, "-c", child, code], check=True)
sys.exit(any(code != "0" for code in sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (["0", "0"], 0),
        (["3", "3"], 3),
        (["75", "75"], 75),
        # One rank has a bug, a full disk or a wrong option; the others only lost it.
        (["75", "1"], 1),
        (["75", "74"], 74),
        (["2", "75"], 2),
        (["75", "130"], 130),
    ],
)
def test_the_code_of_the_processes_is_the_commands(codes, expected):
    assert run_command(Command(argv=(sys.executable, "-c", LAUNCHER, *codes))) == expected


def test_a_launcher_that_starts_nothing_is_an_error_that_says_so():
    with pytest.raises(LaunchError, match="ended with code 7, and none of its processes could say why"):
        run_command(Command(argv=(sys.executable, "-c", "raise SystemExit(7)")))


STOPPED = """
import sys
from flops_fit.launching import Command, run_command
sys.exit(run_command(Command(argv=(sys.executable, "-c", sys.argv[1], sys.argv[2]))))
"""
# Counts the signals that it gets and ends half a second after the first.
COUNTING = """
import pathlib, signal, sys, time
received = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: received.append(number))
out = pathlib.Path(sys.argv[1])
out.write_text("ready")
while not received:
    time.sleep(0.01)
time.sleep(0.5)
out.write_text(",".join(map(str, received)))
sys.exit(1)
"""


def start(out, **variables):
    process = subprocess.Popen([sys.executable, "-c", STOPPED, COUNTING, out], env=os.environ | variables)
    wait_for(out, "ready")
    return process


def wait_for(out: Path, text):
    deadline = time.monotonic() + 30
    while not (out.exists() and out.read_text() == text):
        assert time.monotonic() < deadline, out.read_text()
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_launcher_once(tmp_path, number, code):
    process = start(tmp_path / "out")
    process.send_signal(number)
    assert process.wait(30) == code
    assert (tmp_path / "out").read_text() == str(int(number))


def test_in_a_slurm_step_which_signals_every_process_only_a_second_one_is_passed_on(tmp_path):
    process = start(tmp_path / "out", SLURM_STEP_ID="0")
    process.send_signal(signal.SIGTERM)
    time.sleep(1.0)
    assert process.poll() is None
    assert (tmp_path / "out").read_text() == "ready"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75


def test_a_launcher_whose_command_is_killed_is_asked_to_stop(tmp_path):
    process = start(tmp_path / "out")
    process.kill()
    process.wait()
    wait_for(tmp_path / "out", str(int(signal.SIGTERM)))
