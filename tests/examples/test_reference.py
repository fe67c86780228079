"""What every reference family shares: lazy names, flags, exit codes, and the way to data on the hub."""

import subprocess
import sys
import time

import pytest
from flops_fit.examples import reference

from flops_fit.errors import ConfigError, PlanError

PRESET = {"compute_budgets": [1e9, 2e9], "min_size": 4, "max_size": 64, "size_multiple": 4}


def run_with(argv, call=lambda **arguments: None):
    return reference.run_command(call, reference.make_parser("A family.", data_help="what else"), argv)


def flags_of(argv):
    seen = {}
    assert run_with(argv, seen.update) == 0
    return seen


def test_the_examples_import_neither_datasets_nor_transformers():
    code = (
        "import sys, flops_fit.examples as e; assert {'GPT', 'GPTConfig', 'TinyStoriesDataset', 'gpt_loss_fn', "
        "'VisionTransformer', 'CIFAR10Dataset', 'vit_loss_fn'} <= set(dir(e))\n"
        "print(sorted({'datasets', 'transformers', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_name_that_no_example_has_is_an_attribute_error():
    import flops_fit.examples

    with pytest.raises(AttributeError, match="GPT2"):
        _ = flops_fit.examples.GPT2


@pytest.mark.parametrize("argv", [["1e9", "2.5e9"], ["1e9,2.5e9"], ["1e9,", "2.5e9"]])
def test_budgets_are_apart_by_blanks_or_commas(argv):
    assert flags_of(["--budgets", *argv])["budgets"] == [1e9, 2.5e9]


def test_without_flags_nothing_is_trained_and_the_preset_holds():
    flags = flags_of([])
    assert flags["real"] is False
    grid = {name: flags[name] for name in reference.GRID}
    assert set(grid.values()) == {None}
    assert reference.sweep_settings(PRESET, **grid).compute_budgets == (1e9, 2e9)


def test_flags_replace_the_settings_of_the_preset():
    settings = reference.sweep_settings(PRESET, budgets=[3e9], min_size=8, max_size=16, size_multiple=8, num_sizes=2)
    assert (settings.compute_budgets, settings.min_size, settings.max_size) == ((3e9,), 8, 16)
    assert (settings.size_multiple, settings.num_sizes_per_budget) == (8, 2)


def test_a_setting_that_is_no_flag_is_named():
    with pytest.raises(ConfigError, match="'sizes', expected one of budgets, min_size"):
        reference.sweep_settings(PRESET, sizes=3)


@pytest.mark.parametrize("argv", [["--reel"], ["--rea"], ["--budgets", "many"], ["--min-size", "small"]])
def test_unknown_flags_and_words_for_numbers_end_with_the_usage(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        run_with(argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ")


def test_an_error_raised_on_purpose_is_one_line_and_its_exit_code(capsys):
    def refuse(**arguments):
        raise PlanError("no size fits. Raise the budget.")

    assert run_with([], refuse) == 2
    assert capsys.readouterr().err == "error: no size fits. Raise the budget.\n"


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    for variable in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return monkeypatch


WAYS_OUT = ("--data", "--data FOLDER with its parquet files", "unset HF_HUB_OFFLINE")


def test_offline_the_hub_is_not_asked_and_three_ways_out_are_named(no_cache):
    no_cache.setenv("HF_HUB_OFFLINE", "1")
    no_cache.setattr(reference, "_connect", None)
    with pytest.raises(ConfigError) as raised:
        reference.load_hub_split("roneneldan/TinyStories", "train")
    assert all(way in str(raised.value) for way in WAYS_OUT)
    assert "\n" not in str(raised.value)


def test_a_server_that_refuses_is_found_without_waiting_for_retries(no_cache):
    no_cache.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # The discard port: nothing listens there.
    with pytest.raises(ConfigError, match=r"no connection to 127\.0\.0\.1.*unset HF_HUB_OFFLINE"):
        reference.load_hub_split("roneneldan/TinyStories", "train")


def test_a_network_that_never_answers_is_given_up(no_cache):
    no_cache.setattr(reference, "HUB_SECONDS", 0.01)
    no_cache.setattr(reference, "_connect", lambda address, found: time.sleep(1))
    with pytest.raises(ConfigError, match=r"no connection to huggingface\.co"):
        reference.load_hub_split("roneneldan/TinyStories", "train")


@pytest.mark.parametrize("folder", ["datasets/roneneldan___tiny_stories", "hub/datasets--roneneldan--TinyStories"])
def test_a_copy_in_either_cache_is_seen(folder, no_cache, tmp_path):
    assert not reference._is_cached("roneneldan/TinyStories")
    (tmp_path / "home" / folder).mkdir(parents=True)
    assert reference._is_cached("roneneldan/TinyStories")
