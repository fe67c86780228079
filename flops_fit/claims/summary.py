"""Summary of a sweep for people and programs: counts, FLOPs, who trains what, how fast, and the time left."""

from collections.abc import Sequence
from typing import Any, get_args

from flops_fit.claims.status import RunState, State, run_states
from flops_fit.claims.time_left import TimeLeft
from flops_fit.recipes.trunks import group_by_trunk
from flops_fit.records import FINAL, RunResult
from flops_fit.store import Store

STATES: tuple[State, ...] = get_args(State)


def sweep_status(store: Store, states: Sequence[RunState] | None = None) -> dict[str, Any]:
    """Counts a sweep's runs and FLOPs by state, and lists those in work and those that did not complete.

    Args:
        store: Of the sweep.
        states: Of its runs, where they are known already.

    Returns:
        Plain values: the count of each of `STATES` and ``total``; ``flops_done, flops_total``; ``workers``, one for
        each run that is in work or stale; ``seconds_left``, None while it cannot be estimated; ``problems``, the runs
        that did not complete, and ``interrupted``, those whose last attempt ended without a result.
    """
    states = run_states(store) if states is None else states
    counts: dict[str, Any] = {name: sum(s.state == name for s in states) for name in STATES}
    counts["total"] = len(states)
    counts["flops_done"] = float(sum(_planned_flops(s) for s in states if s.state in FINAL))
    counts["flops_total"] = store.plan.total_flops
    counts["workers"] = [_describe_worker(s) for s in states if s.state in ("running", "stale")]
    counts["seconds_left"] = _seconds_left(states)
    counts["problems"] = [
        _describe_end(s, s.outcome) for s in states if s.outcome is not None and s.state != "completed"
    ]
    counts["interrupted"] = [_describe_end(s, s.last_end) for s in states if s.last_end is not None]
    return counts


def _describe_worker(state: RunState) -> dict[str, Any]:
    claim, beat = state.claim, state.beat
    return {
        "experiment_id": state.experiment.experiment_id,
        "state": state.state,
        "attempt": state.attempts,
        "host": None if claim is None else claim.worker.host,
        "pid": None if claim is None else claim.worker.pid,
        "slurm_job": None if claim is None else claim.worker.slurm_job,
        "claimed_at": None if claim is None else claim.claimed_at,
        "step": None if beat is None else beat.steps,
        "num_steps": state.experiment.num_steps,
        "steps_per_second": state.steps_per_second,
        "beat_age_seconds": state.beat_age_seconds,
    }


def _describe_end(state: RunState, end: RunResult) -> dict[str, Any]:
    return {
        "experiment_id": state.experiment.experiment_id, "status": end.status, "attempts": state.attempts,
        "steps": end.steps, "reason": end.last_line,
    }  # fmt: skip


def _seconds_left(states: Sequence[RunState]) -> float | None:
    """Estimates the time of the open runs from the finished ones, by as many workers as there are now."""
    runs = [s.experiment for s in states if s.state != "failed"]
    workers = max(1, sum(s.state == "running" for s in states))
    left, seconds = TimeLeft(group_by_trunk(runs, share_trunks=True), eval_tokens=0, workers=workers), None
    for state in states:
        if state.outcome is not None and state.outcome.status in FINAL:
            seconds = left.after(state.outcome)
    return seconds


def _planned_flops(state: RunState) -> float:
    return state.experiment.flops_per_token * state.experiment.num_tokens
