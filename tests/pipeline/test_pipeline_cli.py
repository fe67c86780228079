"""The command `flops-fit pipeline`: flags, help, progress, and an exit code and a remedy for each failure."""

import json
import re
import shlex
import shutil

import pytest
from small_pipeline import command, write_lines

from flops_fit.errors import RankLost, StoreError
from flops_fit.pipeline import tokenizer
from flops_fit.pipeline.run import check_folder
from flops_fit.pipeline.settings import FLAGS
from flops_fit.pipeline.stages import STAGES


def test_the_help_lists_every_flag_and_two_examples_whose_flags_exist(call):
    code, out, _ = call("pipeline", "run", "--help")
    assert code == 0
    for flag in (*FLAGS, "json", "help"):
        assert f"--{flag.replace('_', '-')}" in out
    examples = re.findall(r"flops-fit (pipeline .+?--output-dir \S+)", re.sub(r"\s+", " ", out.split("Examples")[1]))
    assert len(examples) == 2
    for example in examples:
        assert shlex.split(example)[1] in {"run", *(stage.name for stage in STAGES)}


@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_every_stage_is_a_verb_of_its_own(call, name):
    code, out, _ = call("pipeline", name, "--help")
    assert code == 0
    assert "--output-dir" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--epochs", "many"), "--epochs"),
        (("run", "--epochs", "0"), "from 1"),
        (("run", "--batch-size", "0"), "a whole number from 1"),
        (("run", "--learning-rate", "-1"), "above 0, up to 10"),
        (("run", "--vocab-size", "256"), "from 257"),
        (("run", "--unheard-of"), "--unheard-of"),
        (("runn",), "runn"),
        (("run", "pipeline.epoch=2"), "Did you mean 'epochs'"),
        (("run", "no such override"), "expected key=value"),
        (("run", "--min-free-gb", "999999"), "--min-free-gb"),
    ],
)
def test_wrong_flags_keys_and_values_are_failures_of_the_first_stage(call, tmp_path, arguments, message):
    code, out, err = call("pipeline", *arguments, *(["--output-dir", tmp_path / "o"] if len(arguments) > 1 else []))
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_the_other_commands_keep_their_code_for_wrong_usage(call):
    assert call("predict", "--unheard-of")[0] == 2


def test_a_corpus_that_cannot_be_used_is_exit_2_with_its_path(call, tmp_path):
    (tmp_path / "latin.txt").write_bytes("año ".encode("latin-1") * 500)
    (tmp_path / "short.txt").write_text("too short\nto learn from\n")
    for name, message in (
        ("nowhere.txt", "does not exist"), ("latin.txt", "is not UTF-8"), ("short.txt", "is too small"),
    ):  # fmt: skip
        code, _, err = call("pipeline", "corpus", "--corpus-path", tmp_path / name, "--output-dir", tmp_path / name[:5])
        assert code == 2
        assert str(tmp_path / name) in err
        assert message in err
        assert "--corpus-path" in err


def test_a_skipped_stage_without_its_artifact_is_refused(call, tmp_path):
    code, _, err = call("pipeline", "run", "--skip-corpus", "--output-dir", tmp_path / "a")
    assert code == 2
    assert f"{tmp_path / 'a' / 'corpus/documents.jsonl'} does not exist" in err
    code, _, err = call(*command(tmp_path / "text", tmp_path / "b", "--skip-tokenizer", verb="tokenizer"))
    assert code == 3
    assert "--skip-tokenizer" in err


def test_stages_go_on_from_each_other_and_skipped_ones_take_what_is_there(call, tmp_path):
    out = tmp_path / "out"
    assert call(*command(tmp_path / "text", out, verb="corpus"))[0] == 0
    code, _, err = call(*command(tmp_path / "text", out, verb="tokenizer"))
    assert code == 0
    assert "[2/9] corpus unchanged" in err
    assert re.search(r"\[3/9\] tokenizer done in \d+\.\d s: tokenizer/tokenizer\.json, \d+ entries", err)
    kept = (out / "tokenizer/tokenizer.json").read_bytes()
    # A run may take both as they are, without --resume: the folder is named for that.
    other = tmp_path / "other"
    shutil.copytree(out, other)
    (other / "pipeline_state.json").unlink()
    code, text, err = call("pipeline", "pack", "--skip-corpus", "--skip-tokenizer", "--output-dir", other, "--json")
    assert code == 0, err
    assert json.loads(text)["stage"] == "pack"
    assert (other / "tokenizer/tokenizer.json").read_bytes() == kept


def test_a_learning_rate_that_diverges_is_exit_4_and_names_the_flag(call, tmp_path):
    text = tmp_path / "text"
    code, _, err = call(
        *command(text, tmp_path / "out", "--learning-rate", "10", "pipeline.epochs=40", "--epochs", "40")
    )
    assert code == 4
    assert "diverged" in err
    assert "--learning-rate" in err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (StoreError("cannot write it: No space left."), 74, "No space left"),
        (RankLost("process 1 waited."), 75, "process 1 waited"),
        (KeyboardInterrupt(), 130, "--resume"),
        (OSError(28, "No space left on device", "somewhere"), 74, "somewhere: No space left"),
        (MemoryError("8 GB"), 3, "--batch-size"),
        (TypeError("what nobody expected"), 3, "FLOPS_FIT_DEBUG=1"),
    ],
)
def test_an_exception_ends_with_its_own_code_or_that_of_its_stage(call, tmp_path, monkeypatch, error, code, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(tokenizer, "train_tokenizer", fail)
    found, _, err = call(*command(tmp_path / "text", tmp_path / "out", verb="tokenizer"))
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_the_traceback_of_what_was_not_expected_is_for_debugging(call, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer, "train_tokenizer", lambda *_: 1 / 0)
    monkeypatch.setenv("FLOPS_FIT_DEBUG", "1")
    code, out, err = call(*command(tmp_path / "text", tmp_path / "out", "--json", verb="tokenizer"))
    assert code == 3
    assert "Traceback" in err
    assert json.loads(out)["error"]["exit_code"] == 3


def test_at_a_terminal_the_user_is_asked_whether_to_go_on(tmp_path, call):
    from flops_fit.errors import ConfigError
    from flops_fit.pipeline.configuration import load_pipeline_config

    paths = [str(path) for path in write_lines(tmp_path / "text")]
    assert call("pipeline", "corpus", "--corpus-path", paths[0], "--output-dir", tmp_path / "o")[0] == 0
    other = load_pipeline_config(flags={"corpus_path": paths[1:], "output_dir": str(tmp_path / "o")})
    asked = []
    check_folder(tmp_path / "o", other, "corpus", lambda question: asked.append(question) or True)
    assert "another configuration" in asked[0]
    with pytest.raises(ConfigError, match="--output-dir"):
        check_folder(tmp_path / "o", other, "corpus", lambda question: False)


def test_a_state_that_cannot_be_read_is_named(call, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "pipeline_state.json").write_text("{")
    code, _, err = call("pipeline", "check", "--output-dir", tmp_path / "o")
    assert code == 1
    assert "pipeline_state.json" in err
    assert "--output-dir NEW" in err
