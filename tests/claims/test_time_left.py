"""The time that is left, against runs whose seconds are known."""

import pytest
from support import make_experiment

from flops_fit.claims.time_left import TimeLeft, rough_seconds
from flops_fit.recipes.trunks import group_by_trunk, own_steps
from flops_fit.records import RunResult

SECONDS_PER_STEP, SECONDS_PER_FLOP, EVAL_TOKENS = 3e-3, 2e-11, 16 * 64


def make_runs():
    """Three sizes at four lengths each, in the order of a plan: the short ones first."""
    return [
        make_experiment(
            experiment_id=f"{size}-{steps}", size_param_value=size, num_tokens=128 * steps,
            measured_flops_per_token=1e3 * size**2,
        )
        for steps in (100, 300, 900, 2700)
        for size in (4, 16, 64)
    ]  # fmt: skip


def truth(trunks):
    """Seconds of each run by its id: its own steps, and the evaluation's forward pass."""
    seconds = {}
    for trunk in trunks:
        for run, steps in zip(trunk, own_steps(trunk), strict=True):
            flops = (128 * steps + EVAL_TOKENS / 3) * run.measured_flops_per_token
            seconds[run.experiment_id] = SECONDS_PER_STEP * steps + SECONDS_PER_FLOP * flops
    return seconds


def finished(run, trunks, status="completed"):
    own = next(n for t in trunks for e, n in zip(t, own_steps(t), strict=True) if e is run)
    return RunResult(
        experiment=run, status=status, loss=None, loss_std_error=None, tokens_seen=0, flops_spent=0.0,
        wall_seconds=truth(trunks)[run.experiment_id], steps=run.num_steps,
        steps_from_trunk=run.num_steps - own,
    )  # fmt: skip


def test_from_the_third_run_on_the_time_left_is_that_of_the_rest():
    runs = make_runs()
    trunks = group_by_trunk(runs, share_trunks=True)
    left, seconds = TimeLeft(trunks, eval_tokens=EVAL_TOKENS), truth(trunks)
    for i, run in enumerate(runs):
        estimate = left.after(finished(run, trunks))
        rest = sum(seconds[e.experiment_id] for e in runs[i + 1 :])
        assert estimate is None if i < 2 else estimate == pytest.approx(rest, rel=1e-6, abs=1e-9)


def test_a_failed_run_is_done_and_says_nothing_of_the_others():
    runs = make_runs()
    trunks = group_by_trunk(runs, share_trunks=False)
    left, seconds = TimeLeft(trunks, eval_tokens=EVAL_TOKENS), truth(trunks)
    estimate = [
        left.after(finished(run, trunks, "failed" if i == 1 else "completed")) for i, run in enumerate(runs[:4])
    ]
    assert estimate[:3] == [None] * 3
    assert estimate[3] == pytest.approx(sum(seconds[e.experiment_id] for e in runs[4:]))


def test_workers_share_what_is_left_down_to_the_longest_trunk():
    runs = make_runs()
    trunks = group_by_trunk(runs, share_trunks=True)
    seconds = truth(trunks)
    of_trunk = {trunk[0].size_param_value: sum(seconds[e.experiment_id] for e in trunk[1:]) for trunk in trunks}
    for workers in (2, 3, 100):
        left = TimeLeft(trunks, eval_tokens=EVAL_TOKENS, workers=workers)
        estimate = [left.after(finished(run, trunks)) for run in runs[:3]][-1]
        assert estimate == pytest.approx(max(sum(of_trunk.values()) / workers, *of_trunk.values()))


def test_a_run_that_has_started_in_a_worker_is_left_in_part(monkeypatch):
    runs = make_runs()
    trunks = group_by_trunk(runs, share_trunks=False)
    left, seconds = TimeLeft(trunks, eval_tokens=EVAL_TOKENS, workers=2), truth(trunks)
    clock = [0.0]
    monkeypatch.setattr("flops_fit.claims.time_left.time.monotonic", lambda: clock[0])
    left.start(runs[-1].experiment_id)
    clock[0] = 0.5 * seconds[runs[-1].experiment_id]
    estimate = [left.after(finished(run, trunks)) for run in runs[:-1]][-1]
    assert estimate == pytest.approx(clock[0])


def test_steps_of_a_trunk_are_counted_once():
    # wsd decays over the last fifth: 80 of 100 steps are common, and the one that begins there.
    (trunk,) = group_by_trunk([make_experiment(num_tokens=128 * n) for n in (300, 100)], share_trunks=True)
    assert [e.num_steps for e in trunk] == [100, 300]
    assert own_steps(trunk) == [100, 300 - 81]
    assert rough_seconds(trunk) < sum(rough_seconds((run,)) for run in trunk)


def test_runs_of_other_sizes_seeds_and_recipes_are_other_trunks():
    runs = [make_experiment(), make_experiment(size_param_value=9), make_experiment(seed=1),
            make_experiment(learning_rate=1.0)]  # fmt: skip
    assert [len(c) for c in group_by_trunk(runs, share_trunks=True)] == [1, 1, 1, 1]
    assert [len(c) for c in group_by_trunk(runs * 2, share_trunks=True)] == [2, 2, 2, 2]
    assert [len(c) for c in group_by_trunk(runs * 2, share_trunks=False)] == [1] * 8
