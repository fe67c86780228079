"""What status, plan and doctor print: counts, shares, reasons, within the width of the terminal."""

import json
from dataclasses import replace

import pytest
from small_sweep import SMALL

from flops_fit.config import load_config
from flops_fit.console import print_plan
from flops_fit.records import Rejection
from flops_fit.store import create_store, open_store


@pytest.fixture
def half_done(sweep_dir, tmp_path):
    """A sweep of which 8 of 20 runs have ended, one failed and one diverged."""
    finished = open_store(sweep_dir)
    _, text = load_config(SMALL)
    store = create_store(tmp_path / "half", finished.plan, config=text)
    for i, result in enumerate(finished.results()[:8]):
        if i in (2, 5):
            reason = "Traceback ...\nRuntimeError: " + "out of luck " * 12 + "at last"
            result = replace(result, status="failed" if i == 2 else "diverged", loss=None, reason=reason)
        store.publish_result(result)
    return store


def test_status_counts_runs_and_flops(half_done, call):
    code, out, _ = call("status", half_done.root, "--json")
    assert code == 0
    status = json.loads(out)
    assert [status[k] for k in ("completed", "diverged", "failed", "pending", "total")] == [6, 1, 1, 12, 20]
    done = [e.flops_per_token * e.num_tokens for i, e in enumerate(half_done.plan.experiments[:8]) if i != 2]
    assert status["flops_done"] == pytest.approx(sum(done))
    assert status["flops_total"] == pytest.approx(half_done.plan.total_flops)
    assert {p["status"] for p in status["problems"]} == {"failed", "diverged"}
    assert all(p["reason"].startswith("RuntimeError") for p in status["problems"])


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_status_fits_the_terminal(half_done, call, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = call("status", half_done.root)[1]
    table = out[out.index("8 of 20") :].split("\nNext")[0]
    assert max(map(len, table.splitlines())) <= columns
    # Folded at any width, and never cut.
    assert "atlast" in "".join(table.split())
    words = " ".join(out.split())
    assert "8 of 20 runs ended" in words
    assert "6 completed, 1 diverged, 1 failed, 12 pending" in words
    assert "--retry-failed" in out


def test_there_is_no_colour_in_a_pipe_and_none_against_no_color(half_done, call, monkeypatch):
    assert "\x1b" not in call("status", half_done.root)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32m" in call("status", half_done.root)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in call("status", half_done.root)[1]


def test_a_dry_run_lists_the_pending_runs(half_done, call):
    pending = [e.experiment_id for e in half_done.pending()]
    assert json.loads(call("train", half_done.root, "--dry-run", "--json")[1]) == {"pending": pending}
    assert all(name in call("train", half_done.root, "--dry-run")[1] for name in pending)


def test_rejections_are_grouped_by_rule(half_done, capsys):
    wide = [Rejection(size_param_value=n, reason=f"is {n} wide", compute_budget=1e9, code="wide") for n in (32, 64, 96)]
    late = [Rejection(size_param_value=8, reason="is late", compute_budget=c, code="late") for c in (1e9, 2e9)]
    rejected = (wide[0], late[0], *wide[1:], late[1])
    print_plan(replace(half_done.plan, rejected=rejected))
    assert (
        "5 (size, budget) pairs rejected:\n"
        "  2: d_model=8 at C=1.00e9..2.00e9: d_model=8 is late\n"
        "  3: d_model=32..96 at C=1.00e9: d_model=32 is 32 wide\n"
    ) in capsys.readouterr().out


def test_a_size_that_cannot_be_built_is_no_pair(half_done, capsys):
    rejected = (Rejection(size_param_value=7, reason="GPT(d_model=7) raised ValueError: odd"),)
    print_plan(replace(half_done.plan, rejected=rejected))
    out = capsys.readouterr().out
    assert "1 size rejected:\n  1: d_model=7: GPT(d_model=7) raised ValueError: odd" in out
    assert "pair" not in out


def test_doctor_describes_the_machine(call):
    import torch

    code, out, _ = call("doctor", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["torch"] == torch.__version__
    assert facts["cores"] >= facts["cores_usable"] >= 1
    assert facts["memory_total_bytes"] > facts["memory_free_bytes"] > 0
    assert {"flops_fit", "commit", "python", "platform", "accelerate", "transformers", "numpy"} <= facts.keys()
    assert len(facts["gpus"]) == torch.cuda.device_count()
    assert facts["precisions"][0] == "fp32"
    assert facts["world_size"] == 1


def test_doctor_answers_people_too(call):
    out = call("doctor")[1]
    assert " GiB" in out
    assert "{" not in out
