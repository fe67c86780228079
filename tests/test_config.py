import dataclasses

import pytest

from flops_fit.config import TaskConfig, build_task, load_config, packaged_configs, read_config, resolve
from flops_fit.errors import ConfigError, InputError
from flops_fit.training import TrainSettings


def test_the_defaults_compose():
    config, text = load_config()
    assert config.task.factory == "flops_fit.examples.gpt_stdlib:build_task"
    assert len(config.sweep.compute_budgets) >= 5
    assert "factory" in text


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=f"{p.parent.name}/{p.stem}") for p in packaged_configs().glob("*/*.yaml")]
)
def test_every_group_file_composes(path):
    load_config([f"{path.parent.name}={path.stem}"])


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=f"{p.parent.name}/{p.stem}") for p in packaged_configs().rglob("*.yaml")]
)
def test_every_file_opens_with_the_command_that_runs_it(path):
    assert path.read_text().startswith("# flops-fit ")


def test_the_default_engine_file_names_every_setting_and_changes_none():
    text = (packaged_configs() / "train" / "default.yaml").read_text()
    named = [line.partition(":")[0] for line in text.splitlines() if not line.startswith("#")]
    assert named == [field.name for field in dataclasses.fields(TrainSettings)]
    assert load_config()[0].train == TrainSettings()


def test_an_override_reaches_a_field_that_no_yaml_names():
    assert load_config(["sweep.limits.min_steps=7"])[0].sweep.limits.min_steps == 7


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sweep.num_sizes_per_bugdet=3", "num_sizes_per_budget"),
        ("sede=1", "seed"),
        ("sweep=smal", "small"),
        ("seed=abc", "seed.*int"),
        ("sweep.compute_budgets=1e18", "list"),
        ("train.precision=bf61", "bf16"),
        ("sweep.recipe.ema_decay=0", "ema_decay: got 0.0, expected 0 < decay < 1"),
        ("sweep.recipe.ema_decay=1", "ema_decay: got 1.0, expected 0 < decay < 1"),
        ("sweep.recipe.ema_decay=-1", "ema_decay: got -1.0, expected 0 < decay < 1"),
        ("sweep.recipe.ema_decay=x", "ema_decay: got 'x', expected float"),
        ("seed", "key=value"),
        ("out=${oc.env:HOME}", "resolvers"),
        ("seed=1,2", "seed"),
        ("fit.law=windwed", "windowed"),
    ],
)
def test_a_wrong_override_names_what_is_known(override, words):
    with pytest.raises(ConfigError, match=words):
        load_config([override])


def test_a_folder_of_the_users_own_groups_is_searched(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text("compute_budgets: [1.0e9]\n")
    assert load_config(["sweep=mine"], config_dir=tmp_path)[0].sweep.compute_budgets == (1e9,)


def test_a_saved_configuration_is_read_back_as_it_was(tmp_path):
    config, text = load_config(["sweep=smoke", "seed=3"])
    (tmp_path / "config.yaml").write_text(text)
    assert read_config(tmp_path / "config.yaml") == config


def test_a_sweep_made_from_python_says_how_to_go_on(tmp_path):
    with pytest.raises(InputError, match="find_optimal"):
        read_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("os", "module:function"),
        ("no_such_module:f", "cannot import"),
        ("flops_fit.api:find_optimum", "find_optimal"),
    ],
)
def test_a_factory_that_does_not_exist_is_refused(name, words):
    with pytest.raises(ConfigError, match=words):
        resolve(name)


def test_options_that_the_factory_does_not_take_are_refused():
    with pytest.raises(ConfigError, match="text_path"):
        build_task(TaskConfig(factory="flops_fit.examples.gpt_stdlib:build_task", options={"text_path": "/"}))


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="held-out"):
        build_task(
            TaskConfig(
                factory="flops_fit.examples.gpt_stdlib:build_task",
                options={"text_dir": str(tmp_path), "cache_dir": str(tmp_path)},
            )
        )
