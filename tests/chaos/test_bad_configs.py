"""Sixty configurations that must not run: a ConfigError with field and remedy, exit code 2, and no file.

Those of `tests/test_config.py` name the words of single messages; here is what a stranger, or a typo, can write.
"""

import re

import pytest

from flops_fit import cli
from flops_fit.config import load_config, read_config
from flops_fit.errors import ConfigError

REMEDY = re.compile(
    r"Known:|expecting|Did you mean|expected|Give |Write |Remove |Correct |Choose |Use |Only references|must |more than"
)

UNKNOWN = [
    "sedd=1", "sweep.compute_budget=[1e9]", "sweep.limits.min_step=3", "sweep.recipe.learning_rat=0.1",
    "train.worker=2",  "fit.laws=extended", "task.option.x=1", "task.factori=a:b", "out.dir=x",
    "sweep.limits.deep.er=1", "train.keep_weight=final", "_target_=os.system", "task._target_=os.system",
    "sweep._target_=builtins.eval", "train._partial_=true", "fit._args_=[1]", "sweep.recipe._target_=pickle.loads",
]  # fmt: skip
WRONG_TYPE = [
    "seed=abc", "seed=1.5", "seed=null", "seed=true", "seed=[1]", "seed={a: 1}", "out=3", "out=null", "out=[a]",
    "sweep.compute_budgets=1e18", "sweep.compute_budgets='1e18'", "sweep.compute_budgets=[a]",
    "sweep.num_sizes_per_budget=seven", "sweep.limits=3", "sweep=3", "train.workers=[2]", "train.precision=fp8",
    "train.eval_samples=many", "train.checkpoint_seconds=soon", "fit.law=guess", "task.options=3", "task.factory=3",
]  # fmt: skip
OUT_OF_RANGE = [
    "sweep.compute_budgets=[-1e9]", "sweep.compute_budgets=[0]",
    "sweep.compute_budgets=[.inf]", "sweep.compute_budgets=[.nan]", "sweep.num_sizes_per_budget=-1",
    "train.workers=0", "train.workers=-2", "train.eval_samples=-1", "train.checkpoint_seconds=-1",
    "train.lease_seconds=0", "train.stall_seconds=-1", "sweep.recipe.ema_decay=2",
]  # fmt: skip
REFERENCES = [
    "seed=${seed}", "out=${nowhere.at_all}", "out=${oc.env:HOME}", "out=${seed}${oc.env:HOME}",
    "out=x${seed}/${oc.env:HOME}", "out=${oc.decode:${out}}", "task.options.text_dir=${oc.env:HOME}",
    "task.options.list=[1,'${oc.env:HOME}']", "out=${sweep", "task.options.x=${oc.create:{a: 1}}",
]  # fmt: skip
OVERRIDES = UNKNOWN + WRONG_TYPE + OUT_OF_RANGE + REFERENCES


def bomb(levels=6, width=9):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


FILES = {
    "aliases that expand to gigabytes": bomb(),
    "a tag that makes an object": "task: !!python/object/apply:os.system ['touch canary']",
    "a tag of one's own": "task: !mine {a: 1}",
    "a list": "- seed",
    "a number": "9",
    "a text": "seed",
    "an unclosed list": "seed: [1",
    "a tab": "\tseed: 1",
    "a key twice": "seed: 1\nseed: 2",
    "a merge with a number": "<<: 3",
    "a NUL byte": b"seed: \x00",
    "UTF-16": "seed: 1".encode("utf-16"),
    "Latin-1": "out: caf\xe9".encode("latin-1"),
    "5,000 brackets": "seed: " + "[" * 5000,
    "400 levels": "".join("  " * i + "a:\n" for i in range(400)),
    "a million and one bytes": "# " + "x" * 1_000_000,
    "two documents": "seed: 1\n---\nseed: 2\n",
    "nothing": "",
    "references in a circle": "out: ${task.factory}\ntask: {factory: '${out}'}",
    "a missing value": "out: ???",
}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/canary")
    return tmp_path


def check(message):
    assert "canary" not in message.replace("touch canary", ""), "a secret was read"
    assert "\n" not in message
    assert REMEDY.search(message), message
    assert len(message) < 1000


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_bad_override_is_refused_with_its_field_and_a_remedy(empty, override):
    with pytest.raises(ConfigError) as raised:
        load_config([override])
    check(str(raised.value))
    assert any(name in str(raised.value) for name in override.partition("=")[0].split("."))


@pytest.mark.parametrize("override", OVERRIDES[::12])
def test_a_bad_override_ends_the_command_in_2_and_writes_nothing(empty, override, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["config", "show", override])
    assert stop.value.code == 2
    assert "bug of ours" not in capsys.readouterr().err
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("override", ["seed=abc", "task._target_=os.system", "out=${seed}${oc.env:HOME}"])
def test_a_bad_override_starts_no_sweep(empty, override, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "out=there", override])
    assert stop.value.code == 2
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_bad_config_file_is_refused_at_once_and_nothing_in_it_runs(empty, content):
    path = empty / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as raised:
        read_config(path)
    check(str(raised.value))
    assert [p.name for p in empty.iterdir()] == ["config.yaml"]


def test_there_are_at_least_sixty_cases():
    assert len({*OVERRIDES}) + len(FILES) >= 60
