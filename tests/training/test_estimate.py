"""Estimates of a plan's cost against the cost itself."""

import pytest
import torch
from support import make_experiment

from flops_fit.records import SweepPlan
from flops_fit.training import TrainSettings
from flops_fit.training.estimate import BYTES_PER_PARAM, _Probe, _processes, _seconds, _work, estimate_cost


def plan_of(*experiments):
    return SweepPlan(
        experiments=experiments, rejected=(), model_cls_name="TinyLM", size_param="width", compute_budgets=(1e6,)
    )


def test_overhead_and_rate_are_recovered_from_three_sizes():
    # 2 ms a step and 1e10 FLOP/s.
    probes = [
        _Probe(num_params=n, flops_per_step=f, seconds_per_step=2e-3 + f / 1e10, activation_bytes=1)
        for n, f in ((10, 1e6), (100, 1e7), (1000, 1e8))
    ]
    assert _seconds(probes, steps=1000, flops=5e10) == pytest.approx(2.0 + 5.0, rel=1e-6)


def test_the_steps_that_runs_of_one_size_share_are_counted_once():
    short, long = (make_experiment(experiment_id=name, num_tokens=16 * n) for name, n in (("a", 800), ("b", 1600)))
    shared, alone = (
        _work(plan_of(short, long), TrainSettings(share_trunks=share), eval_tokens=0) for share in (True, False)
    )
    # 100 and 200 steps of 128 tokens at 1200 FLOPs; without the decay of the shorter run, 81 of them are the same.
    assert alone == (300, 300 * 128 * 1200)
    assert shared == (219, 219 * 128 * 1200)


def test_a_plan_is_probed_without_changing_the_random_numbers(tiny_task, world):
    state = torch.get_rng_state()
    cost = estimate_cost(tiny_task, plan_of(make_experiment()), world, TrainSettings())
    assert torch.equal(state, torch.get_rng_state())
    assert cost.seconds > 0
    assert cost.num_sizes_probed == 1
    assert cost.peak_memory_bytes > BYTES_PER_PARAM * make_experiment().num_params


def test_runs_too_large_for_a_device_are_told_how_many_hold_them():
    small, large = make_experiment(experiment_id="s"), make_experiment(experiment_id="l", num_params=10_000)
    probe = _Probe(num_params=344, seconds_per_step=1.0, flops_per_step=1.0, activation_bytes=1000)
    # 160 kB of weights, gradients and moments beside 1 kB of activations, on devices of 41 kB.
    assert _processes(plan_of(small, large), [probe], 41_000.0) == {"l": 4}
