"""The folder of a sweep, in which nothing is ever lost, half written or mixed up.

    DIR/plans/<n>.json    revision n of the plan           DIR/results/<id>.json   THE result of a run
    DIR/plans/<n>.yaml    the configuration that asked     DIR/ends/<id>.<n>.json  why attempt n ended without a result
                          for it, as composed              DIR/runs/<id>/          metrics, checkpoints, weights
    DIR/plan.json, config.yaml       of the newest revision
    DIR/results.csv, fit.json, report/, plan.json, config.yaml: views, which can be rebuilt at any time

Each fact is one small file, published whole and once: written aside, synced, then linked into place. Facts are never
rewritten: a plan grows by a further revision, and status is derived by listing.
"""

from flops_fit.store.listing import Listing
from flops_fit.store.plans import OTHER_FOLDER, plan_hash
from flops_fit.store.record_files import read_record, record_bytes
from flops_fit.store.sweep_folder import Store, add_runs, create_store, open_store

__all__ = [
    "OTHER_FOLDER",
    "Listing",
    "Store",
    "add_runs",
    "create_store",
    "open_store",
    "plan_hash",
    "read_record",
    "record_bytes",
]
