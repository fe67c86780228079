"""A sweep's folder: its plan, and what is known of each run."""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flops_fit.errors import InputError, StoreError
from flops_fit.files import publish, replace_file, storage_errors
from flops_fit.records import FINAL, ExcludedRun, Experiment, RunResult, RunTable, SweepPlan
from flops_fit.store.listing import ID, Listing, list_folder
from flops_fit.store.plans import OTHER_FOLDER, newest_revision
from flops_fit.store.record_files import read_record, record_bytes
from flops_fit.store.revising import revise


@dataclass(frozen=True)
class Store:
    """One sweep's folder. Made by `create_store` or `open_store`."""

    root: Path
    plan: SweepPlan
    unknown_settings: dict[str, list[str]] = field(default_factory=dict)
    """By run: settings of its recipe that a newer version of flops-fit added."""

    def extend(self, plan: SweepPlan, *, config: str | None = None) -> "Store":
        """Makes ``plan`` the newest revision, with all earlier runs in it; see `create_store`."""
        return create_store(self.root, plan, config=config)

    def listing(self) -> Listing:
        """Lists the results and attempts that there are now."""
        return list_folder(self.root)

    def results(self) -> tuple[RunResult, ...]:
        """Returns the outcome of each finished run, in the order of the plan."""
        listing = self.listing()
        found = (self.outcome(e.experiment_id, listing) for e in self.plan.experiments)
        return tuple(result for result in found if result is not None)

    def outcome(self, experiment_id: str, listing: Listing | None = None) -> RunResult | None:
        """Returns how a run ended: its result, or its newest attempt where that failed; None if it has not ended."""
        listing = listing or self.listing()
        if experiment_id in listing.results:
            return read_record(RunResult, self._result_path(experiment_id))
        newest = listing.newest(experiment_id)
        if not listing.has_ended(experiment_id, newest):
            return None
        end = read_record(RunResult, self._end_path(experiment_id, newest))
        return end if end.status == "failed" else None

    def has_result(self, experiment_id: str) -> bool:
        """Whether a run has its final result."""
        return self._result_path(experiment_id).exists()

    def ends(self, experiment_id: str, listing: Listing | None = None) -> dict[int, RunResult]:
        """Returns how attempts at a run ended without a result, by their numbers."""
        numbers = sorted((listing or self.listing()).ends.get(experiment_id, ()))
        return {n: read_record(RunResult, self._end_path(experiment_id, n)) for n in numbers}

    def checkpoint_step(self, experiment_id: str) -> int:
        """Returns the steps of a run's newest checkpoint, 0 without one."""
        found = (self.root / "runs" / _checked(experiment_id) / "checkpoints").glob("step-*/manifest.json")
        return max((int(p.parent.name[5:]) for p in found if p.parent.name[5:].isdigit()), default=0)

    def pending(self, *, retry_failed: bool = False) -> tuple[Experiment, ...]:
        """Returns the runs without an outcome; with ``retry_failed`` also those that failed.

        Raises:
            InputError: If one has settings that only a newer version of flops-fit can train with.
        """
        done = {r.experiment.experiment_id for r in self.results() if not (retry_failed and r.status == "failed")}
        waiting = tuple(e for e in self.plan.experiments if e.experiment_id not in done)
        for run in waiting:
            if run.experiment_id in self.unknown_settings:
                names = ", ".join(f"recipe.{name}" for name in self.unknown_settings[run.experiment_id])
                raise InputError(
                    f"{self.root}: run {run.experiment_id} was planned by a newer flops-fit with {names}, which this "
                    "version does not know and would train without. Update flops-fit, then run this again."
                )
        return waiting

    def run_dir(self, experiment_id: str) -> Path:
        """Returns the folder of a run's metrics and checkpoints, made on first use."""
        path = self.root / "runs" / _checked(experiment_id)
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def weights_path(self, experiment_id: str, kind: Literal["final", "best"] = "final") -> Path:
        """Returns the safetensors file of a finished run's weights.

        Args:
            experiment_id: The run.
            kind: "final": of the end of the run; "best": of its lowest held-out loss.

        Raises:
            StoreError: If they were not kept.
        """
        result = self.outcome(experiment_id)
        name = None if result is None else result.weights.get(kind)
        if name is None or not (self.root / name).is_file():
            state = "has not ended yet" if result is None else f"is {result.status}, without {kind} weights"
            raise StoreError(
                f"{self.root}: run {experiment_id} {state}. Weights are kept of runs trained with "
                f"train.keep_weights={kind} (or both); for a run that is finished, that takes {OTHER_FOLDER}."
            )
        return self.root / name

    def publish_result(self, result: RunResult, *, attempt: int | None = None) -> bool:
        """Publishes a run's outcome, once; an attempt without a result goes to ``ends/``.

        Args:
            result: The outcome.
            attempt: Number of the attempt; None for the next one.

        Returns:
            False if another outcome was there already, which then stays.
        """
        name = _checked(result.experiment.experiment_id)
        data = record_bytes(result)
        if result.status in FINAL:
            return publish(self._result_path(name), data)
        if attempt is not None:
            return publish(self._end_path(name, attempt), data)
        while not publish(self._end_path(name, self.listing().newest(name) + 1), data):
            pass
        return True

    def _result_path(self, experiment_id: str) -> Path:
        return self.root / "results" / f"{_checked(experiment_id)}.json"

    def _end_path(self, experiment_id: str, attempt: int) -> Path:
        return self.root / "ends" / f"{_checked(experiment_id)}.{attempt}.json"

    def run_table(self) -> RunTable:
        """Returns the completed runs as columns; the others are listed in ``excluded``."""
        results = self.results()
        good = [r for r in results if r.status == "completed"]
        finished = {r.experiment.experiment_id for r in results}
        excluded = [
            ExcludedRun(
                source=r.experiment.experiment_id,
                code="diverged" if r.status == "diverged" else "failed",
                reason=f"{r.status}: {r.last_line or 'no reason recorded'}",
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
            loss_std_error=_column([r.loss_std_error or np.nan for r in good]),
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
    """Opens the folder of a sweep with ``plan`` in it, and makes the folder or a larger revision where needed.

    Any number of processes may call this at once, also those of one launch. A plan that is not a superset of the one
    in the folder is united with it: earlier runs stay. Repeating the newest request changes nothing.

    Args:
        root: The output folder.
        plan: The whole sweep as it is wanted now.
        config: Text of ``config.yaml``; None where the sweep was made from Python.

    Raises:
        PlanMismatch: If the folder belongs to another sweep or to something else, or if ``plan`` asks for fewer runs
            than were asked for before. Nothing is written then.
        InputError: If its plan cannot be read.
        StoreError: If the disk refuses.
    """
    revise(root.resolve(), plan, config, is_whole=True)
    return open_store(root)


def add_runs(root: Path, plan: SweepPlan) -> Store:
    """Adds runs to the sweep in a folder, or begins one there; runs that are known are no change.

    Raises:
        PlanMismatch: If task, data or recipe differ, or if the folder belongs to something else.
        InputError: If its plan cannot be read.
        StoreError: If the disk refuses.
    """
    revise(root.resolve(), plan, None, is_whole=False)
    return open_store(root)


def open_store(root: Path) -> Store:
    """Opens the folder of a sweep at its newest revision; writes nothing.

    Raises:
        InputError: If it holds no readable plan.
    """
    newest = newest_revision(root)
    if newest is None:
        raise InputError(
            f"{root}: got a folder without plan.json, expected one made by `flops-fit run` or find_optimal."
        )
    return Store(root=root.resolve(), plan=newest.plan, unknown_settings=newest.unknown_settings)


def _checked(experiment_id: str) -> str:
    if not ID.fullmatch(experiment_id):
        raise StoreError(f"experiment id {experiment_id!r} is not of the form {ID.pattern}")
    return experiment_id


def _column(values: list[Any]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.array(values, dtype=np.float64)


def _csv_row(r: RunResult) -> dict[str, Any]:
    e = r.experiment
    return {
        "experiment_id": e.experiment_id, "compute_budget": e.compute_budget, "C": r.flops_spent,
        "N": e.num_params, "D": r.tokens_seen, "loss": r.loss,
        "loss_std_error": r.loss_std_error or None, "status": r.status, "seed": e.seed,
        "group": e.group, "epochs": r.epochs, "num_params_non_embedding": e.num_params_non_embedding,
        "learning_rate": e.recipe.learning_rate, "size": e.size_param_value,
        "wall_seconds": round(r.wall_seconds, 3),
    }  # fmt: skip
