"""The judge of a storm: reads the audits of all workers and the store, like a Jepsen history."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fake_training import true_loss

from flops_fit.store import Store

MUST_BE_ZERO = (
    "lost",
    "altered",
    "duplicated",
    "overlaps",
    "failures",
    "failed_points",
    "accepted_nonsense",
    "untyped",
)
"""Figures of any stage that must not count anything."""

Fact = dict[str, Any]


def read_facts(folder: Path) -> list[Fact]:
    """Reads all audits, by time; a line that a kill has torn is left out."""
    facts = []
    for path in folder.iterdir():
        for line in path.read_text().splitlines():
            try:
                facts.append(json.loads(line))
            except ValueError:
                continue
    return sorted(facts, key=lambda fact: fact["at"])


def judge(store: Store, facts: Sequence[Fact], deaths: Mapping[int, float], lease_seconds: float) -> dict[str, Any]:
    """Counts what a sweep under faults came to.

    Args:
        store: After all workers have ended.
        facts: Of `read_facts`.
        deaths: When each process was killed or had ended, by its id.
        lease_seconds: Of the workers.

    Returns:
        The figures. ``lost``, ``altered`` and ``duplicated`` count results, ``overlaps`` attempts that were
        declared lost though their holder lived and had beaten within the lease; all four must be 0.
    """
    results = {r.experiment.experiment_id: r for r in store.results()}
    won: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact["kind"] == "publish" and fact["is_mine"]:
            won[fact["id"]].append(fact)
    lost = altered = duplicated = 0
    for run in store.plan.experiments:
        result, publications = results.get(run.experiment_id), won[run.experiment_id]
        lost += result is None or result.status != "completed"
        if result is not None:
            writers = [{"pid": fact["pid"], "attempt": fact["attempt"]} for fact in publications]
            is_true = result.loss == true_loss(run) and result.tokens_seen == run.num_tokens
            altered += not is_true or (bool(writers) and result.environment not in writers)
        duplicated += len(publications) > 1
    steps = sum(fact["kind"] == "step" for fact in facts)
    return {
        "runs": len(store.plan.experiments),
        "lost": lost,
        "altered": altered,
        "duplicated": duplicated,
        "overlaps": len(_overlaps(facts, deaths, lease_seconds)),
        "second_results_refused": sum(fact["kind"] == "publish" and not fact["is_mine"] for fact in facts),
        "superseded": sum(fact["kind"] == "superseded" for fact in facts),
        "attempts": sum(fact["kind"] == "claim" for fact in facts),
        "steps": steps,
        "steps_needed": sum(run.num_steps for run in store.plan.experiments),
    }


def open_at_death(facts: Sequence[Fact]) -> int:
    """Counts the attempts that their process has not left by itself."""
    left = {(f["id"], f["attempt"]) for f in facts if f["kind"] in ("publish", "superseded")}
    return sum(f["kind"] == "claim" and (f["id"], f["attempt"]) not in left for f in facts)


def _overlaps(facts: Sequence[Fact], deaths: Mapping[int, float], lease_seconds: float) -> list[Fact]:
    """Attempts declared lost that no silence justifies: the holder lived, and had beaten within the lease.

    What a worker that ended them had to see is what was there when its look began, which may be long before it acts.
    """
    beats: dict[tuple[str, int], list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact["kind"] == "beat":
            beats[fact["id"], fact["attempt"]].append(fact)
    return [
        lost
        for lost in facts
        if lost["kind"] == "lost"
        and any(
            beat["at"] <= lost["looked"]
            and beat["began"] > lost["at"] - lease_seconds
            and deaths.get(beat["pid"], float("inf")) > lost["at"]
            for beat in beats[lost["id"], lost["attempt"]]
        )
    ]
