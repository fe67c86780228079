"""How often a run is saved."""

import pytest
import torch

from flops_fit.training import checkpoint_timer
from flops_fit.training.checkpoint_timer import CheckpointTimer


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    fake = Clock()
    monkeypatch.setattr(checkpoint_timer, "time", fake)
    return fake


def run(clock, timer, step_seconds, save_seconds, total):
    """Returns the time spent saving, and when."""
    saved = []
    while clock.now < total:
        clock.now += step_seconds
        if timer.is_due():
            saved.append(clock.now)
            with timer.timed():
                clock.now += save_seconds
    return saved


def test_a_cheap_checkpoint_comes_after_the_seconds_that_are_set(clock):
    saved = run(clock, CheckpointTimer(60.0, [torch.ones(1000)]), 1.0, 0.01, 600)
    assert len(saved) == 9


def test_an_expensive_one_takes_two_percent_of_the_time(clock):
    # 1B parameters in float32: 12 GB, here without memory.
    weights = [torch.ones(10**9, device="meta")]
    saved = run(clock, CheckpointTimer(60.0, weights), 1.0, 30.0, 50_000)
    assert 0.015 < 30 * len(saved) / clock.now <= 0.02
    assert saved[0] > 1000


def test_a_disk_that_becomes_slow_is_noticed(clock):
    timer = CheckpointTimer(1.0, [torch.ones(1)])
    run(clock, timer, 0.1, 0.001, 10)
    later = run(clock, timer, 0.1, 5.0, 1000)
    assert 3 <= len(later) <= 4


def test_zero_seconds_mean_each_step(clock):
    assert len(run(clock, CheckpointTimer(0.0, [torch.ones(10)]), 1.0, 10.0, 110)) == 10
