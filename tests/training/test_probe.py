"""What is chosen for the hardware, and that it is chosen once."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support import TinyLM, make_experiment
from torch import nn

from flops_fit.distributed import World
from flops_fit.training import TrainSettings, train_experiment
from flops_fit.training.engine import probe
from flops_fit.training.engine.memory import bytes_per_sample, free_bytes
from flops_fit.training.engine.probe import EngineChoice, choose_engine, halved

# Of torch's own imports when it compiles.
COMPILES = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@pytest.fixture
def choose(tiny_task, world, tmp_path):
    def run(experiment=None, task=tiny_task, **settings):
        return choose_engine(
            task, experiment or make_experiment(), world, TrainSettings(**settings), tmp_path / "engine.json"
        )

    return run


@pytest.fixture
def timed(monkeypatch):
    """Sets what a probe measures, in seconds."""

    def set_times(**seconds):
        monkeypatch.setattr(probe, "MIN_PARAMS_FOR_16_BIT_ON_CPU", 0)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
        monkeypatch.setattr(probe, "_race", lambda runners, device: {k: seconds.get(k, 999.0) for k in runners})

    return set_times


def test_a_small_model_on_a_cpu_stays_in_fp32(choose):
    assert choose().precision == "fp32"


def test_the_faster_precision_is_taken(choose, timed):
    timed(fp32=1.0, bf16=0.6)
    assert choose().precision == "bf16"


def test_plain_attention_is_taken_where_the_fused_one_is_slow(choose, timed):
    timed(fp32=1.0, bf16=1.1, bf16_plain_attention=0.6)
    chosen = choose()
    assert (chosen.precision, chosen.plain_attention) == ("bf16", True)


def test_a_gain_within_the_noise_of_a_probe_is_none(choose, timed):
    timed(fp32=1.0, bf16=0.97)
    assert choose().precision == "fp32"


def test_what_the_settings_say_is_not_probed(choose, timed):
    timed(fp32=1.0, bf16=0.6)
    assert choose(precision="fp32").precision == "fp32"


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp16")])
def test_a_sharded_model_on_gpus_takes_fp16_where_they_have_no_bf16(
    tiny_task, monkeypatch, tmp_path, has_bf16, precision
):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "pretended")
    world = World(SimpleNamespace(num_processes=1, process_index=0, device="cuda"), is_sharded=True)
    choice = choose_engine(tiny_task, make_experiment(), world, TrainSettings(), tmp_path / "engine.json")
    assert choice.precision == precision


def test_a_choice_is_kept(choose, timed):
    timed(fp32=1.0, bf16=0.6)
    first = choose()
    timed(fp32=1.0, bf16=2.0)
    assert choose() == first


@pytest.mark.parametrize("changed", [{"micro_batch_samples": 2}, {"precision": "fp32"}, {"compile": "never"}])
def test_under_other_settings_it_is_made_again(choose, timed, changed):
    timed(fp32=1.0, bf16=0.6)
    choose()
    timed(fp32=1.0, bf16=2.0)
    assert choose(**changed).precision == "fp32"


def test_a_damaged_file_is_made_again(choose, tmp_path):
    first = choose(compile="never")
    (tmp_path / "engine.json").write_text('{"conditions"')
    assert choose(compile="never") == first
    assert json.loads((tmp_path / "engine.json").read_text())["choice"]["precision"] == "fp32"


@pytest.mark.parametrize(("times", "samples"), [(300, None), (200, 126), (100.9, 84), (0.5, 1)])
def test_a_share_of_251_samples_is_cut_into_as_few_equal_pieces_as_fit_into_memory(choose, monkeypatch, times, samples):
    monkeypatch.setattr(probe, "bytes_per_sample", lambda model, forward: 1000)
    monkeypatch.setattr(probe, "free_bytes", lambda device: 1000 * times / probe.MEMORY_SHARE)
    assert choose(make_experiment(batch_tokens=16 * 251, num_tokens=16 * 502)).micro_batch == samples


class Normed(TinyLM):
    """BatchNorm over the channels of one position: of one sample it has no statistics."""

    def __init__(self, width):
        super().__init__(width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.head(x + self.norm(x[:, 0])[:, None])


class Squeezing(TinyLM):
    """Loses the batch dimension of one sample."""

    def forward(self, tokens):
        return super().forward(tokens.squeeze()).view(len(tokens), *tokens.squeeze().shape[1:], -1)


@pytest.mark.parametrize("model", [Normed, Squeezing])
def test_a_model_that_cannot_train_on_one_sample_is_measured_on_two(choose, tiny_task, model):
    assert choose(task=replace(tiny_task, model_cls=model)).micro_batch is None


def test_a_probe_that_runs_out_of_memory_takes_half(choose, tiny_task):
    class Hungry(TinyLM):
        def forward(self, tokens):
            if len(tokens) > 2:
                raise torch.OutOfMemoryError("pretend")
            return super().forward(tokens)

    assert choose(task=replace(tiny_task, model_cls=Hungry)).micro_batch == 2


def test_halving_ends_at_one_sample():
    choice, sizes = EngineChoice(), []
    while choice is not None:
        sizes.append(choice.micro_batch)
        choice = halved(choice, make_experiment(), world_size=1)
    assert sizes == [None, 4, 2, 1]


def test_saved_activations_are_counted_once_and_weights_not():
    layers = nn.Sequential(nn.Linear(10, 100, bias=False), nn.Tanh(), nn.Linear(100, 5, bias=False))
    x = torch.randn(7, 10)
    # The input, and the output of Tanh, which is also the input of the second layer: 4 bytes each.
    assert bytes_per_sample(layers, lambda: layers(x).sum()) == 4 * 7 * (10 + 100)


def test_free_memory_is_less_than_there_is():
    import os

    assert 0 < free_bytes(torch.device("cpu")) <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@COMPILES
def test_a_long_run_is_compiled_where_that_is_faster(choose, timed):
    timed(fp32=100.0, bf16=200.0, eager=100.0, compiled=70.0)
    assert choose().compiled
    assert not choose(compile="never").compiled


def test_a_long_run_is_not_compiled_where_nothing_is_gained(choose, timed):
    timed(fp32=100.0, bf16=200.0, eager=100.0, compiled=99.0)
    assert not choose().compiled


def test_a_short_run_is_not_compiled(choose, timed):
    timed(fp32=1.0, bf16=2.0, eager=1.0, compiled=0.1)
    assert not choose().compiled


def test_the_probe_leaves_the_random_numbers_alone(choose):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    choose()
    assert torch.rand(1) == expected


@pytest.mark.slow
@COMPILES
def test_a_compiled_model_has_the_loss_of_the_plain_one(tiny_task, world, tmp_path):
    def loss(compile):
        (tmp_path / compile).mkdir()
        return train_experiment(
            tiny_task, make_experiment(), tmp_path / compile, world=world, settings=TrainSettings(compile=compile)
        ).loss

    # Fused kernels add in another order.
    assert loss("always") == pytest.approx(loss("never"), rel=1e-5)
