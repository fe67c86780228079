"""Where is a sweep kept, so that nothing is ever lost, half written or mixed up?

    DIR/config.yaml       as composed, unresolved          DIR/results/<id>.json   THE result of a run
    DIR/plan.json         what will be run                 DIR/ends/<id>.<n>.json  why attempt n failed
    DIR/runs/<id>/        metrics, checkpoints of a run    DIR/results.csv, fit.json, report/   views

Each fact is one small file, published whole and once: written aside, synced, then linked into place.
Facts are never rewritten; status is derived by listing; views can be rebuilt at any time.
"""

import csv
import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from flops_fit.errors import ConfigError, InputError, PlanMismatch, StoreError
from flops_fit.files import publish, replace_file, storage_errors
from flops_fit.records import ExcludedRun, Experiment, RunResult, RunTable, SweepPlan
from flops_fit.schema import build, canonical_json, to_plain

SCHEMA_VERSION = 1
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Store:
    """One sweep's folder. Made by `create_store` or `open_store`."""

    root: Path
    plan: SweepPlan

    def results(self) -> tuple[RunResult, ...]:
        """Returns the outcome of each finished run, in the order of the plan."""
        found = (self.outcome(e.experiment_id) for e in self.plan.experiments)
        return tuple(result for result in found if result is not None)

    def outcome(self, experiment_id: str) -> RunResult | None:
        """Returns what a run came to; of one that only failed, its newest attempt; None if it has not ended."""
        final = self.root / "results" / f"{experiment_id}.json"
        if final.exists():
            return cast(RunResult, _read_record(RunResult, final))
        ends = (self.root / "ends").glob(f"{experiment_id}.*.json")
        newest = max(ends, key=lambda p: int(p.name.split(".")[1]), default=None)
        return None if newest is None else cast(RunResult, _read_record(RunResult, newest))

    def pending(self, *, retry_failed: bool = False) -> tuple[Experiment, ...]:
        """Returns the runs without an outcome; with ``retry_failed`` also those that failed."""
        done = {r.experiment.experiment_id for r in self.results() if not (retry_failed and r.status == "failed")}
        return tuple(e for e in self.plan.experiments if e.experiment_id not in done)

    def run_dir(self, experiment_id: str) -> Path:
        """Returns the folder of a run's metrics and checkpoints, made on first use."""
        path = self.root / "runs" / _checked(experiment_id)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def publish_result(self, result: RunResult) -> None:
        """Publishes a run's outcome, once; a failed attempt goes to ``ends/`` and can be retried."""
        name = _checked(result.experiment.experiment_id)
        data = _to_bytes(result)
        if result.status == "failed":
            attempt = len(list((self.root / "ends").glob(f"{name}.*.json"))) + 1
            publish(self.root / "ends" / f"{name}.{attempt}.json", data)
        else:
            publish(self.root / "results" / f"{name}.json", data)

    def run_table(self) -> RunTable:
        """Returns the completed runs as columns; the others are listed in ``excluded``."""
        results = self.results()
        good = [r for r in results if r.status == "completed"]
        finished = {r.experiment.experiment_id for r in results}
        excluded = [
            ExcludedRun(
                source=r.experiment.experiment_id,
                code="diverged" if r.status == "diverged" else "failed",
                reason=f"{r.status}: {_last_line(r.reason)}",
            )
            for r in results
            if r.status != "completed"
        ]
        excluded += [
            ExcludedRun(source=e.experiment_id, code="not_run_yet", reason="not run yet")
            for e in self.plan.experiments
            if e.experiment_id not in finished
        ]
        runs = [r.experiment for r in good]
        return RunTable(
            compute_budget=_column([e.compute_budget for e in runs]),
            compute=_column([r.flops_spent for r in good]),
            num_params=_column([e.num_params for e in runs]),
            num_tokens=_column([r.tokens_seen for r in good]),
            loss=_column([r.loss for r in good]),
            source=tuple(e.experiment_id for e in runs),
            condition=("",) * len(good),
            group=tuple(e.group for e in runs),
            seed=np.array([e.seed for e in runs], dtype=np.int64),
            num_params_non_embedding=_column([e.num_params_non_embedding for e in runs]),
            learning_rate=_column([e.recipe.learning_rate for e in runs]),
            epochs=_column([r.epochs for r in good]) if all(r.epochs is not None for r in good) else None,
            excluded=tuple(excluded),
            name=self.plan.task_name or self.plan.model_cls_name,
            data_unit=self.plan.data_unit,
        )

    def write_view(self, name: str, text: str) -> Path:
        """Writes a rebuildable file such as ``results.csv``, replacing the old one in one step."""
        path = self.root / name
        replace_file(path, text.encode())
        return path

    def results_csv(self) -> str:
        """Returns one row per finished run, readable by `flops-fit fit`."""
        rows = [_csv_row(r) for r in self.results()]
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else ["experiment_id"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()


def create_store(root: Path, plan: SweepPlan, *, config: str | None = None) -> Store:
    """Makes the folder of a sweep, or opens it if it holds the same plan.

    Args:
        root: The output folder.
        plan: What will be run.
        config: Text of ``config.yaml``; None where the sweep was made from Python.

    Raises:
        PlanMismatch: If the folder belongs to another sweep, or to something else. Nothing is written then.
        StoreError: If the disk refuses.
    """
    root = root.resolve()
    if (root / "plan.json").exists():
        store = open_store(root)
        if plan_hash(store.plan) != plan_hash(plan):
            raise PlanMismatch(
                f"{root} holds another sweep: {store.plan!r} of {store.plan.task_name!r} "
                f"(plan {plan_hash(store.plan)}), and this command plans {plan!r} of {plan.task_name!r} "
                f"(plan {plan_hash(plan)}). {_difference(store.plan, plan)} Nothing was changed. "
                "Choose another folder with out=DIR, or run it with the settings in its config.yaml."
            )
        return store
    if root.exists() and any(root.iterdir()):
        raise PlanMismatch(
            f"{root} is not empty and holds no plan.json, so it is not a sweep of ours. "
            "Nothing was changed. Choose a new or empty folder with out=DIR."
        )
    with storage_errors(root):
        for name in ("results", "ends", "runs", "claims"):
            (root / name).mkdir(parents=True, exist_ok=True)
    if config is not None:
        publish(root / "config.yaml", config.encode())
    publish(root / "plan.json", _to_bytes(plan))
    return open_store(root)


def open_store(root: Path) -> Store:
    """Opens the folder of a sweep.

    Raises:
        InputError: If it holds no readable plan.
    """
    path = root / "plan.json"
    if not path.is_file():
        raise InputError(
            f"{root}: got a folder without plan.json, expected one made by `flops-fit run` or find_optimal."
        )
    return Store(root=root.resolve(), plan=_read_record(SweepPlan, path))


def plan_hash(plan: SweepPlan) -> str:
    """Identifies a plan by its runs: 12 hex digits, whatever their order."""
    ids = sorted(e.experiment_id for e in plan.experiments)
    return hashlib.sha256(canonical_json(ids).encode()).hexdigest()[:12]


def _read_record(cls: type[Any], path: Path) -> Any:
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        version = values.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise InputError(f"{path}: got schema version {version}, this flops-fit reads {SCHEMA_VERSION}.")
        return build(cls, values)
    except (ValueError, ConfigError, AttributeError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: not a readable record: {error}. Restore it from a backup, or remove it to redo it."
        ) from error


def _to_bytes(record: Any) -> bytes:
    return (json.dumps({"schema_version": SCHEMA_VERSION, **to_plain(record)}, indent=1) + "\n").encode()


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _checked(experiment_id: str) -> str:
    if not _ID.fullmatch(experiment_id):
        raise StoreError(f"experiment id {experiment_id!r} is not of the form {_ID.pattern}")
    return experiment_id


def _column(values: list[Any]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.array(values, dtype=np.float64)


def _last_line(text: str | None) -> str:
    return (text or "no reason recorded").strip().splitlines()[-1]


def _csv_row(r: RunResult) -> dict[str, Any]:
    e = r.experiment
    return {
        "experiment_id": e.experiment_id, "compute_budget": e.compute_budget, "C": r.flops_spent,
        "N": e.num_params, "D": r.tokens_seen, "loss": r.loss, "status": r.status, "seed": e.seed,
        "group": e.group, "epochs": r.epochs, "num_params_non_embedding": e.num_params_non_embedding,
        "learning_rate": e.recipe.learning_rate, "size": e.size_param_value,
        "wall_seconds": round(r.wall_seconds, 3),
    }  # fmt: skip


def _difference(old: SweepPlan, new: SweepPlan) -> str:
    for name in (
        "task_name",
        "task_fingerprint",
        "model_cls_name",
        "size_param",
        "model_kwargs",
        "compute_budgets",
    ):
        if getattr(old, name) != getattr(new, name):
            return f"They differ in {name}: {getattr(old, name)!r} there, {getattr(new, name)!r} here."
    return "They differ in sizes, recipe or seed."
