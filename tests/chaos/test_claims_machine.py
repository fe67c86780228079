"""Any order of claims, heartbeats, expired leases, ends, results, retries and crashes keeps the folder's promises."""

import itertools
import shutil

import pytest
from claims_machine import ClaimsMachine
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from flops_fit.claims import board


@pytest.fixture
def run_machine(tmp_path):
    count = itertools.count()

    def folder():
        shutil.rmtree(tmp_path / "last", ignore_errors=True)
        return tmp_path / "last" / str(next(count))

    def run(examples, steps, phases=tuple(Phase)):
        chosen = settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None, derandomize=True,
            phases=phases, suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        ClaimsMachine.folders.append(folder)
        try:
            run_state_machine_as_test(ClaimsMachine, settings=chosen)
        finally:
            ClaimsMachine.folders.pop()

    return run


def test_any_order_of_events_keeps_the_folders_promises(run_machine):
    run_machine(20, 30)


@pytest.mark.slow
def test_any_order_of_events_keeps_the_folders_promises_at_length(run_machine):
    run_machine(500, 50)


def test_deaf_workers_are_found_by_the_machine(run_machine, monkeypatch):
    monkeypatch.setattr(board, "read_text", lambda path: "")
    with pytest.raises(AssertionError, match="taken from worker"):
        run_machine(40, 20, phases=[Phase.generate])
