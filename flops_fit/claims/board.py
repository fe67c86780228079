"""The runs of a sweep as a worker sees them: which is free to take, which others hold."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flops_fit.claims.attempt import (
    Attempt,
    Claim,
    attempts_without_progress,
    beat_path,
    end_attempt,
    publish_claim,
    read_beat,
    read_claim,
    read_text,
)
from flops_fit.claims.heartbeat import Lease, is_active_here
from flops_fit.claims.time_left import rough_seconds
from flops_fit.claims.worker import UNKNOWN, Worker, is_gone, is_same_process
from flops_fit.recipes.trunks import TrunkRuns, group_by_trunk
from flops_fit.records import Experiment
from flops_fit.store import Listing, Store


@dataclass(frozen=True)
class _Seen:
    text: str
    since: float
    has_changed: bool


@dataclass
class Board:
    """The runs that this worker may train, longest trunk first; within a trunk the shortest run that is not done.

    Only that run of a trunk can be taken, so no two workers train the steps that its runs share.

    Args:
        store: Of the sweep.
        runs: To train.
        worker: This process.
        lease: Of all workers of the folder.
        share_trunks: Whether runs of one size and seed share steps.
        retry: Newest attempt at each failed run that is to be tried once more.
    """

    store: Store
    runs: Sequence[Experiment]
    worker: Worker
    lease: Lease = field(default_factory=Lease)
    share_trunks: bool = True
    retry: Mapping[str, int] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _trunks: Sequence[TrunkRuns] = field(init=False)

    def __post_init__(self) -> None:
        # Once: the ids of trunks are hashes of recipes, and a waiting worker looks every second.
        self._trunks = group_by_trunk(self.runs, share_trunks=self.share_trunks)

    def take(self) -> Attempt | None:
        """Takes the first free run; None where none is free now.

        Raises:
            StoreError: If the disk refuses.
        """
        for run, number in self._candidates():
            claim = publish_claim(self.store, run, number, self.worker, lease_seconds=self.lease.seconds)
            # A result may have come between the look and the claim, from a worker that was thought to be gone.
            if claim is not None and not self.store.has_result(run.experiment_id):
                return Attempt(store=self.store, experiment=run, number=number, claim=claim)
        return None

    def open_runs(self) -> list[Experiment]:
        """Returns the runs that are neither done nor failed."""
        listing = self.store.listing()
        return [run for run in self.runs if not self._is_over(run, listing)]

    def has_free(self) -> bool:
        """Whether a run can be taken now, or as soon as its holder's lease is known to be over."""
        return any(self._holder(run, listing) is None for run, listing in self._next_runs())

    def rest_is_held(self) -> bool:
        """Whether others work on all that is left: each trunk's next run is held by a worker that certainly lives."""
        return all(self._is_alive(run, listing) for run, listing in self._next_runs())

    def _next_runs(self) -> Iterator[tuple[Experiment, Listing]]:
        """The shortest open run of each trunk."""
        listing = self.store.listing()
        for trunk in self._trunks:
            waiting = [run for run in trunk if not self._is_over(run, listing)]
            if waiting:
                yield waiting[0], listing

    def _is_alive(self, run: Experiment, listing: Listing) -> bool:
        claim = self._holder(run, listing)
        if claim is None:
            return False
        is_here = claim.worker.machine is not None and claim.worker.machine == self.worker.machine
        return is_here or self._seen[f"{run.experiment_id}.{claim.attempt}"].has_changed

    def _candidates(self) -> list[tuple[Experiment, int]]:
        listing, found = self.store.listing(), []
        for trunk in self._trunks:
            waiting = [run for run in trunk if not self._is_over(run, listing)]
            if waiting and (number := self._next_attempt(waiting[0], listing)) is not None:
                misses = self._misses(waiting[0], listing)
                found.append((misses, -rough_seconds(tuple(waiting)), waiting[0], number))
        return [(run, number) for _, _, run, number in sorted(found, key=lambda f: f[:2])]

    def _is_over(self, run: Experiment, listing: Listing) -> bool:
        name = run.experiment_id
        newest = listing.newest(name)
        if name in listing.results or not listing.has_ended(name, newest):
            return name in listing.results
        return self.store.outcome(name, listing) is not None and self.retry.get(name, 0) < newest

    def _next_attempt(self, run: Experiment, listing: Listing) -> int | None:
        """Number of the attempt that can be made now; None while another worker holds the run."""
        name = run.experiment_id
        newest = listing.newest(name)
        if newest == 0 or listing.has_ended(name, newest):
            return newest + 1
        if self._holder(run, listing) is not None:
            return None
        claim, beat = read_claim(self.store.root, name, newest), read_beat(self.store.root, name, newest)
        who = "the worker" if claim is None else f"process {claim.worker.pid} on {claim.worker.host}"
        steps, seconds = (0, 0.0) if beat is None else (beat.steps, beat.seconds)
        reason = f"{who} is gone or silent after step {steps}."
        end = end_attempt(self.store, run, newest, "lost", reason, steps=steps, seconds=seconds)
        return None if end.status == "failed" else newest + 1

    def _holder(self, run: Experiment, listing: Listing) -> Claim | None:
        """The live claim on a run, None where there is none; a silent one is live until its lease is over."""
        name, root = run.experiment_id, self.store.root
        newest = listing.newest(name)
        if newest == 0 or listing.has_ended(name, newest):
            return None
        claim = read_claim(root, name, newest)
        if claim is not None and is_gone(claim.worker, self.worker):
            return None
        if claim is not None and is_same_process(claim.worker, self.worker) and not is_active_here(root, name, newest):
            return None
        text, now = read_text(beat_path(root, name, newest)), time.monotonic()
        seen = self._seen.get(f"{name}.{newest}")
        if seen is None or seen.text != text:
            seen = self._seen[f"{name}.{newest}"] = _Seen(text, now, seen is not None)
        if now - seen.since > self.lease.seconds:
            return None
        unknown = Claim(experiment_id=name, attempt=newest, worker=UNKNOWN, checkpoint_step=0, claimed_at="")
        return claim or unknown

    def _misses(self, run: Experiment, listing: Listing) -> int:
        ends = self.store.ends(run.experiment_id, listing)
        return attempts_without_progress(self.store, run.experiment_id, ends)[1] if ends else 0
