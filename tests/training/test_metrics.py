"""What is written down during a run."""

import json
import math

import accelerate.accelerator
import accelerate.tracking
import pytest
import torch
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType
from support import make_experiment

from flops_fit.errors import ConfigError
from flops_fit.training import TrainSettings, metrics, train_experiment
from flops_fit.training.engine.peak_flops import GPU_PEAKS, peak_flops_per_second


@pytest.fixture
def lines_of(tiny_task, world, tmp_path):
    def run(experiment=None, folder="run", **settings):
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        settings = {"log_every": 5, "compile": "never", **settings}
        train_experiment(
            tiny_task, experiment or make_experiment(), path, world=world, settings=TrainSettings(**settings)
        )
        return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]

    return run


def test_each_line_says_what_was_done_how_fast_and_how_well(lines_of, monkeypatch):
    monkeypatch.setattr(metrics, "peak_flops_per_second", lambda device, precision: 1e9)
    lines = lines_of()
    for line in lines:
        assert line["tokens"] == min(line["step"] * 128, 2400)
        assert line["gradient_norm"] > 0
        assert line["memory_bytes"] > 1e6
        # FLOPs per token of the experiment, over the peak.
        assert line["model_flops_utilization"] == pytest.approx(line["tokens_per_second"] * 1200 / 1e9, abs=1e-5)
    assert all(math.isfinite(line["loss"]) for line in lines)


def test_without_clipping_no_gradient_norm_is_measured(lines_of):
    assert lines_of(make_experiment(max_grad_norm=None))[-1]["gradient_norm"] is None


def test_a_line_cut_by_a_kill_is_dropped(lines_of, tmp_path):
    lines_of()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 19, "los')
    assert [line["step"] for line in lines_of()] == [5, 10, 15, 19]


class Recorder(GeneralTracker):
    """A tracker that remembers."""

    name, requires_logging_directory, main_process_only = "recorder", False, True
    made = []

    def __init__(self, run_name, **_):
        super().__init__()
        self.logged, self.config, self.finished = [], {}, False
        Recorder.made.append(self)

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step, **_):
        assert not self.finished
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def tensorboard(monkeypatch):
    """Has the recorder stand for tensorboard, which need not be installed."""
    Recorder.made.clear()
    for module in (accelerate.tracking, accelerate.accelerator):
        monkeypatch.setitem(module.LOGGER_TYPE_TO_CLASS, "tensorboard", Recorder)
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: [LoggerType.TENSORBOARD])
    return Recorder.made


def test_a_tracker_gets_the_numbers_of_its_own_run_only(lines_of, tensorboard):
    lines_of(folder="a", trackers=("tensorboard",))
    lines_of(make_experiment(seed=1), folder="b", trackers=("tensorboard",))
    one, two = tensorboard
    assert [step for step, _ in one.logged] == [5, 10, 15, 19]
    assert [step for step, _ in two.logged] == [5, 10, 15, 19]
    assert one.config["learning_rate"] == 0.01
    assert two.config["seed"] == 1
    assert one.finished
    assert two.finished


@pytest.mark.parametrize("name", ["tensorbord", "wandb"])
def test_a_tracker_that_cannot_be_used_is_refused(lines_of, tensorboard, name):
    with pytest.raises(ConfigError, match=r"train\.trackers"):
        lines_of(trackers=(name,))


def test_the_peak_of_a_cpu_is_measured_and_grows_with_nothing_but_the_machine():
    peak = peak_flops_per_second(torch.device("cpu"), "fp32")
    # Between an embedded core and any server.
    assert 1e8 < peak < 1e15
    assert peak_flops_per_second(torch.device("cpu"), "fp32") == peak


@pytest.mark.parametrize(("name", "peak"), [("NVIDIA H100 80GB HBM3", 9.89e14), ("NVIDIA H100 PCIe", 7.56e14)])
def test_the_longer_name_of_a_gpu_comes_first(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops_per_second(torch.device("cuda"), "bf16") == peak
    assert all(p > 1e13 for p in GPU_PEAKS.values())
