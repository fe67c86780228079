"""Every failure is one message and one exit code, and with --json one object on stdout."""

import json

import pytest

from flops_fit.cli import fits, main

VERBS = ("run", "plan", "train", "status", "fit", "predict", "report", "doctor")


def only_object(out):
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.mark.parametrize(
    ("argv", "kind", "words"),
    [
        (["run", "sweep=smal"], "ConfigError", "small"),
        (["plan", "sede=1"], "ConfigError", "seed"),
        (["train", "nowhere"], "InputError", "no such folder"),
        (["status", "nowhere"], "InputError", "no such folder"),
        (["fit", "missing.csv"], "InputError", "missing.csv"),
        (["predict", "missing.csv", "--compute", "1e20"], "InputError", "missing.csv"),
        (["report", "missing.csv"], "InputError", "missing.csv"),
        (["config", "show", "sede=1"], "ConfigError", "seed"),
        (["predict", "missing.csv"], "UsageError", "--compute"),
        (["fit"], "UsageError", "SOURCE"),
        (["fitt"], "UsageError", "fit"),
        (["doctor", "--verbose"], "UsageError", "--verbose"),
        (["predict", "missing.csv", "--compute", "much"], "UsageError", "--compute"),
    ],
)
def test_a_refusal_is_one_json_object_and_the_message(call, tmp_path, argv, kind, words):
    code, out, err = call(*argv, "--json")
    error = only_object(out)["error"]
    assert error.keys() == {"type", "message", "exit_code"}
    assert (code, error["exit_code"], error["type"]) == (2, 2, kind)
    assert words.lower() in error["message"].lower()
    assert err == f"error: {error['message']}\n"
    assert list(tmp_path.iterdir()) == []


def test_without_json_stdout_stays_empty(call):
    code, out, err = call("fit", "--colour")
    assert (code, out) == (2, "")
    assert err.startswith("error: No such option")
    assert "flops-fit fit --help" in err


def raise_key_error(*_, **__):
    raise KeyError("shape") from RuntimeError("a wrong turn")


def test_an_unexpected_exception_is_a_bug_of_ours(call, monkeypatch):
    monkeypatch.delenv("FLOPS_FIT_DEBUG", raising=False)
    monkeypatch.setattr(fits, "_load", raise_key_error)
    code, out, err = call("fit", "runs.csv", "--json")
    error = only_object(out)["error"]
    assert (code, error["exit_code"], error["type"]) == (1, 1, "KeyError")
    for words in ("shape", "test_failures.py", "RuntimeError: a wrong turn", "bug of ours", "FLOPS_FIT_DEBUG=1"):
        assert words in error["message"]
    assert "Traceback" not in err


@pytest.mark.parametrize("argv", [["fit", "missing.csv"], ["status", "nowhere"]])
def test_a_traceback_is_shown_on_demand(call, monkeypatch, argv):
    monkeypatch.setenv("FLOPS_FIT_DEBUG", "1")
    code, _, err = call(*argv)
    assert code == 2
    assert "Traceback (most recent call last)" in err


def test_an_interrupt_ends_in_130(call, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fits, "_load", interrupt)
    code, out, err = call("fit", "runs.csv", "--json")
    assert code == only_object(out)["error"]["exit_code"] == 130
    assert "resume" in err


def test_an_unreadable_file_is_a_storage_error(call, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "/data/runs.csv")

    monkeypatch.setattr(fits, "_load", refuse)
    code, _, err = call("fit", "runs.csv")
    assert code == 74
    assert "/data/runs.csv: Permission denied" in err


@pytest.mark.parametrize(("failure", "printed"), [(KeyError, "error on rank 1"), (KeyboardInterrupt, "")])
def test_other_ranks_report_bugs_alone(call, monkeypatch, failure, printed):
    def fail(*_, **__):
        raise failure

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(fits, "_load", fail)
    _, out, err = call("fit", "runs.csv", "--json")
    assert out == ""
    assert err.startswith(printed)
    assert bool(err) == bool(printed)


def test_no_verb_prints_the_help_and_ends_in_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert "predict" in capsys.readouterr().out
