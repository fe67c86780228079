"""Stages of the long form, run short, in a process of their own: they fork, and this one may hold torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ENV = os.environ | {"OMP_NUM_THREADS": "1"}
RUN = Path(__file__).parent / "run.py"


@pytest.fixture
def figures(tmp_path):
    """Runs a stage and returns (exit code, its figures)."""

    def run(stage, *options, seed=0):
        out = tmp_path / f"{stage}.json"
        argv = [sys.executable, RUN, out, "--only", stage, "--seed", seed, *options]
        done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=300, env=ENV)
        assert out.is_file(), done.stderr[-3000:]
        return done.returncode, json.loads(out.read_text())[stage]

    return run
