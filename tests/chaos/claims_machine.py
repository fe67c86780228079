"""State machine of a sweep's folder: three workers, any order of events, and what must hold after each of them."""

import dataclasses
import os
from typing import ClassVar
from unittest import mock

import fake_training
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flops_fit.claims import Attempt, Board, Lease, board, run_states, this_worker
from flops_fit.claims.attempt import Beat
from flops_fit.records import RunResult
from flops_fit.store import create_store

LEASE = 100.0
ENDS = ("preempted", "died", "stalled", "stopped", "failed")
WORKERS = st.integers(0, 2)


class ClaimsMachine(RuleBasedStateMachine):
    """Workers 0 and 1 are on machines of their own; worker 2 is on this one, where a death is seen at once."""

    folders: ClassVar[list[object]] = []
    """Where an example may be made; the last one is taken."""

    @initialize()
    def plan(self) -> None:
        root = self.folders[-1]()  # type: ignore[operator]
        # Two runs of one trunk: all three workers want the same one.
        self.store = create_store(root, fake_training.make_plan(2, 4))
        self.now = 0.0
        self.clock = mock.patch.object(board, "time", mock.Mock(monotonic=lambda: self.now))
        self.sync = mock.patch.object(os, "fsync")
        self.clock.start()
        self.sync.start()
        self.boards = [self._board(number) for number in range(3)]
        self.attempts: dict[int, Attempt] = {}
        self.beaten: dict[tuple[str, int], float] = {}
        self.published: dict[str, bytes] = {}
        self.ended: dict[str, bytes] = {}
        self.claimed: set[tuple[str, int]] = set()
        self.retried: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "clock"):
            self.clock.stop()
            self.sync.stop()

    def _board(self, number: int) -> Board:
        worker = this_worker()
        if number < 2:
            worker = dataclasses.replace(worker, machine=f"node-{number}")
        return Board(self.store, self.store.plan.experiments, worker, Lease(seconds=LEASE))

    @rule(number=WORKERS)
    def claim(self, number: int) -> None:
        if number in self.attempts:
            return
        results = set(self.published)
        failed = {s.experiment.experiment_id for s in run_states(self.store) if s.state == "failed"}
        taken = self.boards[number].take()
        if taken is None:
            return
        name = taken.experiment.experiment_id
        assert (name, taken.number) not in self.claimed, "two won one claim"
        assert name not in results, "a finished run was taken"
        assert name not in failed or name in self.retried, "a failed run was taken"
        for other, held in self.attempts.items():
            if held.experiment.experiment_id == name:
                silent = self.now - self.beaten[name, held.number]
                assert held.is_superseded()
                assert silent > LEASE, f"taken from worker {other}, silent for {silent} of {LEASE} s"
        self.claimed.add((name, taken.number))
        self.attempts[number] = taken
        self.beaten[name, taken.number] = self.now

    @rule(number=WORKERS, steps=st.integers(0, 4))
    def beat(self, number: int, steps: int) -> None:
        if number in self.attempts:
            attempt = self.attempts[number]
            if attempt.is_superseded():
                del self.attempts[number]
                return
            attempt.beat(Beat(count=int(self.now * 10) + 1, steps=steps, seconds=self.now, first_step=0))
            self.beaten[attempt.experiment.experiment_id, attempt.number] = self.now

    @rule(number=WORKERS, step=st.integers(1, 7))
    def checkpoint(self, number: int, step: int) -> None:
        if number in self.attempts:
            attempt = self.attempts[number]
            folder = self.store.run_dir(attempt.experiment.experiment_id) / "checkpoints"
            fake_training.save(folder, step, "state")

    @rule(seconds=st.sampled_from([1.0, 40.0, 99.0, 101.0, 250.0]), watchers=st.sets(WORKERS))
    def wait(self, seconds: float, watchers: set[int]) -> None:
        """Time goes by; some workers have looked before."""
        for number in watchers:
            self.boards[number].has_free()
        self.now += seconds

    @rule(watcher=WORKERS)
    def wait_beside_beating_workers(self, watcher: int) -> None:
        """Longer than a lease in all, and never so long between two heartbeats."""
        for _ in range(4):
            for number in list(self.attempts):
                self.beat(number, 1)
            self.boards[watcher].has_free()
            self.now += 0.4 * LEASE
        self.claim(watcher)

    @rule(number=WORKERS, status=st.sampled_from(ENDS))
    def end(self, number: int, status: str) -> None:
        if number in self.attempts:
            attempt = self.attempts.pop(number)
            attempt.end(status, "chaos", steps=0, seconds=0.0)  # type: ignore[arg-type]

    @rule(number=WORKERS)
    def publish(self, number: int) -> None:
        if number in self.attempts:
            attempt = self.attempts.pop(number)
            run = attempt.experiment
            attempt.publish(
                RunResult(
                    experiment=run, status="completed", loss=fake_training.true_loss(run), loss_std_error=None,
                    tokens_seen=run.num_tokens, flops_spent=1.0, wall_seconds=self.now, steps=run.num_steps,
                )
            )  # fmt: skip

    @rule(number=WORKERS)
    def crash(self, number: int) -> None:
        """A worker is gone, and another process begins in its place with no memory of what it has seen."""
        self.attempts.pop(number, None)
        self.boards[number] = self._board(number)

    @precondition(lambda self: any(s.state == "failed" for s in run_states(self.store)))
    @rule(number=WORKERS)
    def retry(self, number: int) -> None:
        failed = {s.experiment.experiment_id: s.attempts for s in run_states(self.store) if s.state == "failed"}
        self.retried |= set(failed)
        self.boards[number].retry = {**self.boards[number].retry, **failed}

    @invariant()
    def facts_stay(self) -> None:
        if hasattr(self, "store"):
            for folder, known in (("results", self.published), ("ends", self.ended)):
                for path in (self.store.root / folder).glob("*.json"):
                    assert known.setdefault(path.name.removesuffix(".json"), path.read_bytes()) == path.read_bytes()
                assert {p.name.removesuffix(".json") for p in (self.store.root / folder).glob("*.json")} == set(known)

    @invariant()
    def attempts_are_numbered_without_a_gap(self) -> None:
        if hasattr(self, "store"):
            listing = self.store.listing()
            for name, numbers in listing.claims.items():
                assert sorted(numbers) == list(range(1, len(numbers) + 1))
                # Whoever takes a run has first published how the attempt before it ended.
                assert all(listing.has_ended(name, n) for n in numbers if n < max(numbers))

    @invariant()
    def status_agrees_with_what_is_open(self) -> None:
        if hasattr(self, "store"):
            states = {s.experiment.experiment_id: s.state for s in run_states(self.store)}
            over = {name for name, state in states.items() if state in ("completed", "diverged", "failed")}
            fresh = self._board(0)
            assert {run.experiment_id for run in fresh.open_runs()} == set(states) - over
            assert {name for name, state in states.items() if state == "completed"} == set(self.published)
