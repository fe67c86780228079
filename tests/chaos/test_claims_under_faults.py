"""Claims at their edges: deaths without progress, preemptions with it, requeued jobs, late results, full disks."""

import dataclasses
import errno
import os
import resource
import signal

import fake_training
import pytest
from broken import MECHANISMS
from storm import fork

from flops_fit import files
from flops_fit.claims import Attempt, Board, Hold, Lease, board, this_worker
from flops_fit.claims.attempt import MAX_WITHOUT_PROGRESS, MAX_WITNESSED
from flops_fit.errors import StoreError
from flops_fit.files import publish
from flops_fit.records import RunResult
from flops_fit.store import Store, create_store


@pytest.fixture
def store(tmp_path):
    return create_store(tmp_path / "sweep", fake_training.make_plan(2, 8))


@pytest.fixture
def elsewhere():
    """A worker of another machine: what becomes of it, only its heartbeat tells."""
    return dataclasses.replace(this_worker(), machine="another")


def board_of(store, worker=None, **options):
    return Board(store, store.plan.experiments, worker or this_worker(), **options)


def checkpoint(store, attempt, step):
    folder = store.run_dir(attempt.experiment.experiment_id) / "checkpoints"
    fake_training.save(folder, step, "state")


def completed(run, **changes):
    values = {
        "experiment": run, "status": "completed", "loss": fake_training.true_loss(run), "loss_std_error": None,
        "tokens_seen": run.num_tokens, "flops_spent": 1.0, "wall_seconds": 0.0,
    }  # fmt: skip
    return RunResult(**(values | changes))


# Poison pills


def test_a_run_that_kills_each_of_its_workers_has_failed_after_three(store):
    for _ in range(MAX_WITNESSED):
        attempt = board_of(store).take()
        end = attempt.end("died", "exit code -9.", steps=0, seconds=0.0)
    assert attempt.number == MAX_WITNESSED == 3
    assert end.status == "failed"
    assert "3 attempts in a row ended without a newer checkpoint" in end.reason
    assert "--retry-failed" in end.reason
    # The other run of its trunk is not held up.
    assert board_of(store).take().experiment.experiment_id != attempt.experiment.experiment_id


def test_deaths_with_progress_between_them_fail_no_run(store):
    for step in range(1, 9):
        attempt = board_of(store).take()
        checkpoint(store, attempt, step)
        end = attempt.end("died", "exit code -9.", steps=step, seconds=0.0)
        assert end.status == "died"
    assert board_of(store).take().number == 9


def test_twenty_preemptions_with_progress_still_complete(store):
    for step in range(1, 21):
        attempt = board_of(store).take()
        checkpoint(store, attempt, step)
        assert attempt.end("preempted", "SIGTERM", steps=step, seconds=0.0).status == "preempted"
    attempt = board_of(store).take()
    assert attempt.number == 21
    attempt.publish(completed(attempt.experiment))
    assert store.outcome(attempt.experiment.experiment_id).status == "completed"


def test_a_run_whose_workers_vanish_without_progress_fails_at_the_limit(store, monkeypatch, elsewhere):
    now = [0.0]
    monkeypatch.setattr(board, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))
    watcher = board_of(store, lease=Lease(seconds=10))
    name = store.plan.experiments[0].experiment_id
    for number in range(1, MAX_WITHOUT_PROGRESS + 1):
        assert board_of(store, elsewhere).take().number == number
        watcher.has_free()
        now[0] += 11
        assert watcher._next_attempt(store.plan.experiments[0], store.listing()) == (
            number + 1 if number < MAX_WITHOUT_PROGRESS else None
        )
    assert store.outcome(name).status == "failed"
    assert f"{MAX_WITHOUT_PROGRESS} attempts in a row" in store.outcome(name).reason


def test_a_failed_run_is_taken_again_only_where_it_was_asked_for(store):
    attempt = board_of(store).take()
    attempt.end("failed", "ValueError", steps=0, seconds=0.0)
    name = attempt.experiment.experiment_id
    assert name not in {run.experiment_id for run in board_of(store).open_runs()}
    again = board_of(store, retry={name: 1}).take()
    assert (again.experiment.experiment_id, again.number) == (name, 2)


# SLURM


@pytest.fixture
def slurm(monkeypatch):
    """Makes this process a task of a SLURM job on a machine of its own."""

    def worker(restarts, *, job="70", task=None, machine="node"):
        for name, value in (
            ("SLURM_JOB_ID", job), ("SLURM_RESTART_COUNT", restarts), ("SLURM_ARRAY_JOB_ID", task and job),
            ("SLURM_ARRAY_TASK_ID", task),
        ):  # fmt: skip
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, str(value))
        return dataclasses.replace(this_worker(), machine=machine)

    return worker


@pytest.mark.parametrize("task", [None, "3"])
def test_a_requeued_job_takes_its_own_claim_at_once(store, slurm, task):
    first = board_of(store, slurm(0, task=task)).take()
    requeued = board_of(store, slurm(1, task=task, machine="another node"))
    again = requeued.take()
    assert (again.experiment, again.number) == (first.experiment, 2)


@pytest.mark.parametrize("other", [{"restarts": 0}, {"restarts": 1, "job": "71"}, {"restarts": 1, "task": "4"}])
def test_no_other_job_takes_it_before_the_lease_is_over(store, slurm, other):
    board_of(store, slurm(0, task="3" if "task" in other else None)).take()
    assert board_of(store, slurm(**other, machine="another node")).take() is None


# Late results


def late_result(store, monkeypatch):
    """A worker that was thought to be gone publishes between the listing and the claim of the next one."""
    old = board_of(store).take()
    old.end("lost", "silent", steps=0, seconds=0.0)
    listing = store.listing()
    old.publish(completed(old.experiment))
    monkeypatch.setattr(Store, "listing", lambda self: listing)
    taken = board_of(store).take()
    return taken is not None and taken.experiment == old.experiment


def test_a_result_that_came_after_the_look_is_seen_before_training(store, monkeypatch):
    assert not late_result(store, monkeypatch)


def test_a_second_result_is_refused_and_the_first_one_stays(store):
    attempt = board_of(store).take()
    first, second = completed(attempt.experiment), completed(attempt.experiment, loss=9.0)
    assert store.publish_result(first, attempt=1) is True
    assert store.publish_result(second, attempt=2) is False
    assert store.outcome(attempt.experiment.experiment_id) == first


def test_an_attempt_is_superseded_by_a_result_an_end_or_a_next_attempt(store):
    for kind in ("result", "end", "claim"):
        attempt = board_of(store).take()
        assert not attempt.is_superseded()
        if kind == "result":
            attempt.publish(completed(attempt.experiment))
        elif kind == "end":
            attempt.end("lost", "silent", steps=0, seconds=0.0)
        else:
            publish(store.root / "claims" / f"{attempt.experiment.experiment_id}.{attempt.number + 1}.json", b"{}")
        assert attempt.is_superseded()


def test_a_checkpoint_that_fails_matters_only_to_the_one_who_holds_the_run(store):
    attempt = board_of(store).take()
    hold = Hold(attempt)
    with pytest.raises(StoreError), hold.unless_superseded():
        raise StoreError("the folder is gone")
    attempt.end("lost", "silent", steps=0, seconds=0.0)
    with hold.unless_superseded():
        raise StoreError("the folder is gone")
    assert hold.is_superseded


def test_a_worker_that_cannot_beat_stops_before_its_lease_is_over(store, monkeypatch):
    attempt = board_of(store).take()

    def refuse(self, beat):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Attempt, "beat", refuse)
    with Hold(attempt, lease=Lease(seconds=0.05)) as hold:
        while not hold.is_superseded:
            assert hold.seconds < 60


# The disk


def order_of_calls(monkeypatch, path):
    """What `publish` syncs and links, in order."""
    calls = []
    true_link, true_sync = os.link, os.fsync
    monkeypatch.setattr(os, "link", lambda a, b: (calls.append("link"), true_link(a, b)))
    monkeypatch.setattr(
        os, "fsync",
        lambda handle: (calls.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file"),  # noqa: PTH112
                        true_sync(handle)),
    )  # fmt: skip
    publish(path, b"{}")
    return calls


def test_a_fact_is_on_the_disk_before_it_has_its_name_and_its_name_before_it_counts(tmp_path, monkeypatch):
    assert order_of_calls(monkeypatch, tmp_path / "a.json") == ["file", "link", "folder"]


def test_a_write_that_is_cut_short_leaves_no_fact(tmp_path):
    """The system takes a part of the data, then refuses: no call of ours fails by itself."""

    def write_past_the_limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            publish(tmp_path / "a.json", b"x" * 1500)
        except StoreError:
            os._exit(74)

    assert os.waitstatus_to_exitcode(os.waitpid(fork(write_past_the_limit), 0)[1]) == 74
    assert list(tmp_path.iterdir()) == []


# Mechanisms broken on purpose


def test_without_syncing_the_order_on_the_disk_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "os", files.os)
    MECHANISMS["sync"]()
    assert order_of_calls(monkeypatch, tmp_path / "a.json") == ["link"]


def test_without_the_look_after_the_claim_a_late_result_is_trained_again(store, monkeypatch):
    monkeypatch.setattr(Store, "has_result", Store.has_result)
    MECHANISMS["look"]()
    assert late_result(store, monkeypatch)
