"""How many workers, and where."""

import pytest
import torch
from support import make_experiment

from flops_fit.errors import LaunchError
from flops_fit.training import TrainSettings
from flops_fit.training.workers import count as counting
from flops_fit.training.workers.count import worker_count
from flops_fit.training.workers.process import places


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many threads, GPUs and bytes."""

    def make(threads=8, gpus=0, free=1e12, quota="max 100000"):
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(counting, "free_host_bytes", lambda: free)
        monkeypatch.setattr(counting, "CPU_QUOTA", Quota(quota))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return make


class Quota:
    def __init__(self, text):
        self.text = text

    def read_text(self):
        return self.text


def make_runs(sizes=20, **changes):
    """Each a minute long or more."""
    return [make_experiment(size_param_value=s, num_tokens=128 * 30_000, **changes) for s in range(sizes)]


def test_automatic_is_what_threads_memory_and_the_container_allow(machine):
    auto = TrainSettings(workers="auto")
    for facts, expected in [
        ({}, 8), ({"free": 3.5e9}, 3), ({"free": 0.0}, 1), ({"quota": "250000 100000"}, 2), ({"threads": 1}, 1),
        ({"gpus": 2}, 2), ({"quota": "50000 100000"}, 1),
    ]:  # fmt: skip
        machine(**facts)
        assert worker_count(auto, make_runs()) == expected, facts


def test_automatic_leaves_runs_that_would_have_several_threads_to_one_process(machine):
    machine()
    runs = [*make_runs(), make_experiment(num_params=1_000_000)]
    assert worker_count(TrainSettings(workers="auto"), runs) == 1
    assert worker_count(TrainSettings(workers=4), runs) == 4


def test_automatic_starts_no_worker_for_seconds_of_work(machine):
    machine()
    runs = [make_experiment(size_param_value=s, num_tokens=128 * 100) for s in range(20)]
    assert worker_count(TrainSettings(workers="auto"), runs) == 1


def test_there_are_no_more_workers_than_trunks(machine):
    machine()
    runs = [make_experiment(num_tokens=128 * n) for n in range(10, 20)]
    assert worker_count(TrainSettings(workers=4), runs) == 1
    assert worker_count(TrainSettings(workers=4, share_trunks=False), runs) == 4
    assert worker_count(TrainSettings(workers=4), []) == 1


def test_workers_under_a_launcher_are_refused_and_automatic_is_one(monkeypatch, machine):
    machine()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LaunchError, match=r"train\.workers=2.*launcher started 2"):
        worker_count(TrainSettings(workers=2), make_runs())
    for setting in (1, "auto"):
        assert worker_count(TrainSettings(workers=setting), make_runs()) == 1


def test_threads_are_divided_and_gpus_set_round(machine, monkeypatch):
    machine(threads=7)
    assert [(p.threads, p.gpu, p.neighbours) for p in places(3)] == [(2, None, 2)] * 3
    machine(threads=1, gpus=2)
    assert [(p.threads, p.gpu, p.neighbours) for p in places(3)] == [(1, "0", 1), (1, "1", 0), (1, "0", 1)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa,5")
    assert [p.gpu for p in places(2)] == ["GPU-aa", "5"]
