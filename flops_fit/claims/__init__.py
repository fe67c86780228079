"""Claims: any number of workers share a sweep's folder, and each run is trained by one of them at a time.

    DIR/claims/<id>.<n>.json   attempt n at a run: who holds it (immutable, published once)
    DIR/claims/<id>.<n>.hb     its heartbeat, the only file that is rewritten; losing it is harmless
    DIR/ends/<id>.<n>.json     how attempt n ended without a result (immutable, published once)

A run is free without a claim, or where its newest attempt has ended in a way that is tried again, or is stale: its
heartbeat has not changed for a lease, by the observer's own monotonic clock, or its process is known to be gone. To
take a run is to publish attempt n + 1, which one worker wins. Leases may overlap: what is right then comes only from
the exclusive publishing of attempts and results. No lock, no database, no server; listings only choose candidates.
"""

from flops_fit.claims.attempt import Attempt, Superseded, end_attempt, open_claims, read_beat
from flops_fit.claims.board import Board
from flops_fit.claims.folder import FolderAbilities, admitted, try_folder
from flops_fit.claims.heartbeat import Hold, Lease
from flops_fit.claims.status import RunState, run_states
from flops_fit.claims.summary import STATES, sweep_status
from flops_fit.claims.worker import Worker, this_worker

__all__ = [
    "STATES", "Attempt", "Board", "FolderAbilities", "Hold", "Lease", "RunState", "Superseded", "Worker", "admitted",
    "end_attempt", "open_claims", "read_beat", "run_states", "sweep_status", "this_worker", "try_folder",
]  # fmt: skip
