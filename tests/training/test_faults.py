"""Faults in the middle of a run: what was there stays, and what goes on ends as if nothing had happened."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from support import make_experiment, sequence_loss

from flops_fit.claims import Hold, admitted, this_worker
from flops_fit.errors import Preempted, StoreError
from flops_fit.records import SweepPlan
from flops_fit.stopping import signals_request_stop
from flops_fit.store import create_store
from flops_fit.training import TrainSettings, metrics, train_sweep
from flops_fit.training.sweep import Turn

EACH_STEP = {"checkpoint_seconds": 0.0, "compile": "never", "precision": "fp32", "log_every": 5}
RUNS = [make_experiment(experiment_id=f"run-{w}", size_param_value=w, num_tokens=16 * 150) for w in (8, 12)]


@pytest.fixture
def fault(monkeypatch):
    """Calls a function once, at the n-th sign of progress: a start, a step, a checkpoint, a part of an evaluation."""

    def at(number, act):
        left, tick = [number], Hold.tick

        def counted(self, *arguments):
            tick(self, *arguments)
            left[0] -= 1
            if left[0] == 0:
                act()

        monkeypatch.setattr(Hold, "tick", counted)

    return at


@pytest.fixture
def sweep(tiny_task, world, tmp_path):
    """Trains two runs into a folder, with faults on the way; returns its store."""

    def run(folder="sweep", task=tiny_task, **settings):
        plan = SweepPlan(
            experiments=tuple(RUNS), rejected=(), model_cls_name="TinyLM", size_param="width", compute_budgets=(1e6,)
        )
        store = create_store(tmp_path / folder, plan)
        with signals_request_stop():
            train_sweep(task, RUNS, store, world=world, settings=TrainSettings(**(EACH_STEP | settings)))
        return store

    return run


WHOLE = {}


@pytest.fixture
def losses(sweep):
    """Of the sweep that nothing happens to; trained once."""
    return WHOLE or WHOLE.update(losses_of(sweep("whole"))) or WHOLE


def losses_of(store):
    return {r.experiment.experiment_id: (r.status, r.loss, r.tokens_seen) for r in store.results()}


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


# A run starts with one sign of progress, gives two at each of its 19 steps, and two while it is evaluated.
@pytest.mark.parametrize("number", [1, 2, 20, 38, 39, 41, 60])
def test_sigterm_anywhere_leaves_a_checkpoint_and_the_next_command_goes_on(sweep, losses, fault, number, tmp_path):
    fault(number, terminate)
    with pytest.raises(Preempted, match="SIGTERM"):
        sweep()
    ends = [json.loads(path.read_text()) for path in (tmp_path / "sweep").glob("ends/*")]
    done = [json.loads(path.read_text()) for path in (tmp_path / "sweep").glob("results/*")]
    # Where a run has just ended the next one is not begun.
    assert {end["status"] for end in ends} <= {"preempted"}
    store = sweep()
    assert losses_of(store) == losses
    assert len(ends) + len(done) > 0
    assert {r.steps for r in store.results()} == {19}


def test_a_second_sigterm_changes_nothing(sweep, losses, fault):
    def twice():
        terminate()
        terminate()

    fault(9, twice)
    with pytest.raises(Preempted):
        sweep()
    assert losses_of(sweep()) == losses


def test_ctrl_c_leaves_a_checkpoint_too(sweep, losses, fault, tmp_path):
    fault(6, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        sweep(checkpoint_seconds=60.0)
    assert [p.name for p in (tmp_path / "sweep" / "runs").glob("*/checkpoints/step-*")] == ["step-00000006"]
    assert losses_of(sweep()) == losses


def damaged(path, how):
    data = path.read_bytes()
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "flip":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    else:
        shutil.copyfile(next(p for p in path.parent.iterdir() if p != path), path)


@pytest.mark.parametrize("how", ["delete", "cut", "flip", "swap"])
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(sweep, losses, fault, tmp_path, caplog, name, how):
    fault(9, terminate)
    with pytest.raises(Preempted):
        sweep()
    (folder,) = (tmp_path / "sweep" / "runs").glob("*/checkpoints")
    newest = max(folder.iterdir())
    damaged(newest / name, how)
    store = sweep()
    assert losses_of(store) == losses
    assert f"{newest} is damaged" in caplog.text
    assert all(r.steps == r.experiment.num_steps for r in store.results())


def test_a_damaged_checkpoint_is_replaced_when_the_run_gets_there_again(sweep, fault, tmp_path):
    fault(9, terminate)
    with pytest.raises(Preempted):
        sweep()
    (folder,) = (tmp_path / "sweep" / "runs").glob("*/checkpoints")
    newest = max(folder.iterdir())
    damaged(newest / "state.json", "cut")
    fault(2, terminate)
    with pytest.raises(Preempted):
        sweep()
    assert json.loads((newest / "state.json").read_text())["step"] == int(newest.name[5:])


def test_a_checkpoint_of_another_run_is_not_used(sweep, losses, fault, tmp_path, caplog):
    fault(9, terminate)
    with pytest.raises(Preempted):
        sweep()
    (folder,) = (tmp_path / "sweep" / "runs").glob("*/checkpoints")
    state = json.loads((max(folder.iterdir()) / "state.json").read_text())
    for path in folder.iterdir():
        (path / "state.json").write_text(json.dumps(state | {"owner": "run-99", "step": int(path.name[5:])}))
        manifest = json.loads((path / "manifest.json").read_text())
        digest = hashlib.sha256((path / "state.json").read_bytes()).hexdigest()
        (path / "manifest.json").write_text(json.dumps(manifest | {"state.json": digest}))
    assert losses_of(sweep()) == losses
    assert "is of another run" in caplog.text


@pytest.mark.parametrize("what", ["checkpoint", "result", "metrics"])
def test_a_full_disk_ends_with_a_storage_error_and_the_sweep_finishes_later(sweep, losses, monkeypatch, tmp_path, what):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if what == "checkpoint":
            patch.setattr("flops_fit.training.checkpoints.save_file", refuse)
        elif what == "result":
            patch.setattr("flops_fit.files.os.link", refuse)
            patch.setattr("flops_fit.claims.board.publish_claim", publish_claim_as_if_there_was_room(patch))
        else:
            patch.setattr(metrics.MetricsLog, "_append", refuse, raising=True)
        with pytest.raises(StoreError, match="Free some space") as error:
            sweep()
    assert error.value.exit_code == 74
    assert losses_of(sweep()) == losses


def publish_claim_as_if_there_was_room(patch):
    from flops_fit.claims import board

    original, link = board.publish_claim, os.link

    def publish(*arguments, **keywords):
        refusing = os.link
        patch.setattr("flops_fit.files.os.link", link)
        try:
            return original(*arguments, **keywords)
        finally:
            patch.setattr("flops_fit.files.os.link", refusing)

    return publish


def test_metrics_cut_anywhere_lose_their_tail_alone(tmp_path):
    lines = [f'{{"step": {5 * i}, "loss": 1.5}}\n' for i in range(1, 5)]
    whole = "".join(lines).encode()
    for size in range(len("".join(lines[:2])), len(whole) + 1):
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(whole[:size])
        metrics._cut(path, 15)
        kept = path.read_text().splitlines(keepends=True)
        complete = whole[:size].count(b"\n")
        assert kept == lines[: min(complete, 3)]


def test_lines_of_another_writer_are_left_out_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 5}\n\xff\x00{"ste{"step": 6}\n[1]\n{"step": 10}\n')
    metrics._cut(path, 10)
    assert path.read_text() == '{"step": 5}\n{"step": 10}\n'


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tiny_task, sweep, tmp_path):
    """No checkpoint of the step, no retry."""
    spoiled = {"calls": 0}

    def loss_fn(logits, targets):
        loss = sequence_loss(logits, targets)
        if torch.is_grad_enabled():
            spoiled["calls"] += 1
            if spoiled["calls"] == 7:
                return loss * float("nan")
        return loss

    store = sweep(task=replace(tiny_task, loss_fn=loss_fn))
    first = next(r for r in store.results() if r.status == "diverged")
    assert "the training loss was nan at step" in first.reason
    assert store.pending() == ()
    assert store.pending(retry_failed=True) == ()
    assert not list((tmp_path / "sweep" / "runs").glob("*/checkpoints/step-*"))


def test_a_run_taken_while_another_rank_is_asked_to_stop_is_given_back(sweep, losses, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr("flops_fit.distributed.World.gather", lambda self, turn: [turn, Turn.STOP])
        with pytest.raises(Preempted):
            sweep()
    (end,) = (tmp_path / "sweep" / "ends").iterdir()
    assert json.loads(end.read_text())["status"] == "preempted"
    assert losses_of(sweep()) == losses


def test_an_error_of_the_training_is_no_error_of_the_folder(tmp_path):
    with pytest.raises(ConnectionError, match="hub"), admitted(make_claims_folder(tmp_path), this_worker()):
        raise ConnectionError("the hub is away")


def make_claims_folder(path):
    (path / "claims").mkdir()
    return path


def test_a_stalled_rank_leaves_its_exit_code_for_the_command_that_launched_it(tmp_path):
    code = (
        "import time\n"
        "from flops_fit.claims import Hold\n"
        "from flops_fit.stopping import signals_end_command\n"
        "with signals_end_command(), Hold(stall_seconds=0.05):\n"
        "    time.sleep(60)\n"
    )
    environment = os.environ | {"FLOPS_FIT_EXIT_CODES": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=50)
    assert done.returncode == 75
    assert [path.read_text() for path in tmp_path.iterdir()] == ["75"]
