"""Interruptions of a run: all its processes stop at the same place."""

from flops_fit.claims import Hold, Superseded
from flops_fit.distributed import World
from flops_fit.stopping import stop_requested


class Interrupted(Exception):
    """A signal asked a process of the run to stop."""


def stop_run(hold: Hold, *, superseded: bool) -> None:
    """Stops a run after the step in hand; every process calls this, with the same decision.

    Args:
        hold: Of the attempt.
        superseded: Whether another worker has taken over; else a signal asked a process to stop.

    Raises:
        Superseded: If it has.
        Interrupted: Otherwise.
    """
    if superseded:
        raise Superseded("another worker has taken over this run")
    asked = stop_requested()
    cause = "another process of the run was asked to stop" if asked is None else f"got {asked.name}"
    raise Interrupted(f"stopped after step {hold.steps}: {cause}.")


def stop_run_if_requested(hold: Hold, world: World) -> None:
    """Stops a run where any of its processes must stop; every process calls this, at the same place.

    Raises:
        Superseded: If another worker has taken over.
        Interrupted: If a signal asked a process to stop.
    """
    found = [float(hold.must_stop), float(hold.is_superseded)]
    stops, superseded = found if world.size == 1 else world.exchange(found, None, what="whether to stop")
    if stops:
        stop_run(hold, superseded=superseded > 0)
