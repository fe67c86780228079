import dataclasses
import sys

import pytest

from flops_fit.config import TaskConfig, build_task, compose_plain, load_config, read_config, resolve
from flops_fit.errors import ConfigError, ContractError, InputError
from flops_fit.presets import PIPELINE_GROUPS, STUDY_GROUPS, packaged_configs, preset_names
from flops_fit.studies.configuration import load_study
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
    override = f"{path.parent.name}={path.stem}"
    if path.parent.name in PIPELINE_GROUPS:
        compose_plain([override], root="pipeline_run", groups=PIPELINE_GROUPS)
    elif path.parent.name in STUDY_GROUPS:
        load_study([override])
    else:
        load_config([override])


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=f"{p.parent.name}/{p.stem}") for p in packaged_configs().rglob("*.yaml")]
)
def test_every_file_opens_with_the_command_that_runs_it(path):
    # Hydra reads a package's header in the first line only.
    assert path.read_text().removeprefix("# @package _global_\n").startswith("# flops-fit ")


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
    with pytest.raises(ConfigError, match="no files that match"):
        build_task(
            TaskConfig(
                factory="flops_fit.examples.gpt_stdlib:build_task",
                options={"text_dir": str(tmp_path), "cache_dir": str(tmp_path)},
            )
        )


@pytest.fixture
def my_tasks(tmp_path, monkeypatch):
    """A module of a user's factories, found in the working directory."""
    (tmp_path / "my_tasks.py").write_text(
        "import my_parts\n"
        "def wide(*, width=3, text_dir=None):\n"
        "    return my_parts.build(width)\n"
        "def needy(*, path):\n"
        "    return None\n"
        "def typed(*, width=3):\n"
        "    raise TypeError('got an unexpected keyword argument')\n"
        "def refusing(*, path='x'):\n"
        "    from flops_fit.errors import ContractError\n"
        "    raise ContractError('the data is in French')\n"
        "def empty():\n"
        "    return None\n"
    )
    (tmp_path / "my_parts.py").write_text("def build(width):\n    return {}[width]\n")
    (tmp_path / "my_dependent.py").write_text("import no_such_package\n")
    (tmp_path / "my_broken.py").write_text("def f(:\n")
    (tmp_path / "my_raising.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("factory", "options", "words"),
    [
        ("my_tasks:wide", {"widht": 1}, ["unknown option", "'width'", "text_dir, width"]),
        ("my_tasks:needy", {}, ["needs path", "task.options.path=VALUE"]),
        (
            "my_tasks:wide",
            {},
            ["raised KeyError: 3", "my_tasks.py:3 in wide", "my_parts.py:2 in build: return {}[width]"],
        ),
        ("my_tasks:typed", {}, ["raised TypeError: got an unexpected keyword argument", "my_tasks.py:7 in typed"]),
        ("my_tasks:empty", {}, ["returned NoneType, expected a Task"]),
        ("my_dependent:f", {}, ["importing 'my_dependent' raised", "no_such_package", "my_dependent.py:1"]),
        ("my_broken:f", {}, ["raised SyntaxError", "my_broken.py, line 1"]),
        ("my_raising:f", {}, ["raised ZeroDivisionError", "my_raising.py:1 in <module>: 1 / 0"]),
        ("my_missing:f", {}, ["cannot import 'my_missing'", "run from the folder that holds it"]),
    ],
)
def test_what_a_factory_raises_is_its_own_and_a_wrong_option_is_named(my_tasks, factory, options, words):
    with pytest.raises(ConfigError) as raised:
        build_task(TaskConfig(factory=factory, options=options))
    for word in words:
        assert word in str(raised.value)
    assert ("FLOPS_FIT_DEBUG" in str(raised.value)) == ("raised" in words[0])
    assert "importlib" not in str(raised.value)


def test_a_typed_error_of_a_factory_is_left_as_it_is(my_tasks):
    with pytest.raises(ContractError, match=r"^the data is in French$"):
        build_task(TaskConfig(factory="my_tasks:refusing"))


@pytest.mark.parametrize("value", ["1e10,2e10", "'1e10,2e10'", "1e10", "fast", "[a]"])
def test_budgets_that_are_no_list_of_numbers_are_refused_with_the_remedy(value):
    with pytest.raises(ConfigError) as raised:
        load_config([f"sweep.compute_budgets={value}"])
    message = str(raised.value)
    assert message.startswith("sweep.compute_budgets")
    assert "\n" not in message
    assert "[" in message


@pytest.mark.parametrize(
    "override", ["a b=1", "=3", "seed=[1", "~nothing", "sweep=", "sweep=[small,smoke]", "swep=small"]
)
def test_an_override_that_cannot_be_read_is_one_line(override):
    with pytest.raises(ConfigError) as raised:
        load_config([override])
    assert "\n" not in str(raised.value)


def test_presets_of_the_user_are_listed_and_the_nearest_is_named(tmp_path):
    folder = tmp_path / "my groups, 'quoted'"
    (folder / "sweep").mkdir(parents=True)
    (folder / "sweep" / "mine.yaml").write_text("compute_budgets: [1.0e9]\n")
    assert "mine" in preset_names(folder)["sweep"]
    assert load_config(["sweep=mine"], config_dir=folder)[0].sweep.compute_budgets == (1e9,)
    with pytest.raises(ConfigError, match=r"Did you mean 'mine'\? Known: mine, small, smoke"):
        load_config(["sweep=mien"], config_dir=folder)


def test_a_preset_that_is_no_yaml_is_refused_with_its_place(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "bad.yaml").write_text("compute_budgets: [1e9\nseed: 3\n")
    with pytest.raises(ConfigError, match=r"bad.yaml.*line 2"):
        load_config(["sweep=bad"], config_dir=tmp_path)


def test_a_file_in_place_of_a_sweep_is_named(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(InputError, match=r"notes.md: got a file"):
        read_config(tmp_path / "notes.md" / "config.yaml")
