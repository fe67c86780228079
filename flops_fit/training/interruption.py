"""Interruptions of a run: all its processes leave it at the same place."""

from flops_fit.claims import Hold, Superseded
from flops_fit.distributed import World
from flops_fit.stopping import stop_asked


class Interrupted(Exception):
    """A signal asked a process of the run to stop."""


def leave(hold: Hold, *, superseded: bool) -> None:
    """Leaves a run after its last step; every process calls this, with the same decision.

    Args:
        hold: Of the attempt.
        superseded: Whether another worker has taken over; else a signal asked a process to stop.

    Raises:
        Superseded: If it has.
        Interrupted: Otherwise.
    """
    if superseded:
        raise Superseded("another worker has taken over this run")
    asked = stop_asked()
    who = "another process of the run" if asked is None else asked.name
    raise Interrupted(f"{who} asked to stop, after step {hold.steps}.")


def leave_if_asked(hold: Hold, world: World) -> None:
    """Leaves a run where any of its processes must stop; every process calls this, at the same place.

    Raises:
        Superseded: If another worker has taken over.
        Interrupted: If a signal asked a process to stop.
    """
    found = [float(hold.must_stop), float(hold.is_superseded)]
    stops, superseded = found if world.size == 1 else world.exchange(found, None, what="whether to stop")
    if stops:
        leave(hold, superseded=superseded > 0)
