"""Revisions of a plan: which larger plans may follow the one in a folder, and what the union of two is.

A plan only grows. Its runs keep their ids, their records and their results; those of a larger plan are added where
task, data and recipe are the same, in the order of a sweep that had been planned at once.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from flops_fit.errors import InputError, PlanMismatch
from flops_fit.records import Experiment, Recipe, SweepPlan
from flops_fit.schema import canonical_json, to_plain, unknown_fields
from flops_fit.store.listing import ID
from flops_fit.store.record_files import read_values, record_from

OTHER_FOLDER = "another folder (out=DIR on the command line, output_dir=... in Python)"
# What all runs of a folder have in common; the first is a name only, and explains the others.
COMMON = (
    "task_name", "task_fingerprint", "model_cls_name", "size_param", "model_kwargs", "flops_convention", "data_unit",
)  # fmt: skip
# Settings that a recipe rule derives from N; the others are those of every size.
FOLLOWS_SIZE = {"batch_tokens", "learning_rate", "warmup_tokens", "beta2"}
_REVISION = re.compile(r"([1-9][0-9]*)\.json")


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One revision of the plan in a folder."""

    number: int
    """From 1; 0 for the plan.json of a folder that has no ``plans/``."""
    path: Path
    plan: SweepPlan
    values: Mapping[str, Any]
    """The record as it was read, with all that a newer version added."""

    @property
    def requested(self) -> frozenset[str]:
        """Ids of the runs that were asked for; the plan also holds those of the revisions before."""
        return frozenset(self.values.get("requested") or run_ids(self.plan))

    @property
    def unknown_settings(self) -> dict[str, list[str]]:
        """Recipe settings by run that are set and that this version does not know: it cannot train such a run."""
        found = {
            str(run["experiment_id"]): [k for k, v in unknown_fields(Recipe, run["recipe"]).items() if v is not None]
            for run in self.values["experiments"]
        }
        return {run: names for run, names in found.items() if names}


def newest_revision(root: Path) -> Revision | None:
    """Reads the newest revision in a folder; None if it holds no plan.

    Raises:
        InputError: If it cannot be read.
    """
    numbers = revision_numbers(root)
    if numbers:
        return _read(revision_path(root, numbers[-1]), numbers[-1])
    path = root / "plan.json"
    return _read(path, 0) if path.is_file() else None


def revision_numbers(root: Path) -> list[int]:
    """Returns the numbers of the revisions in a folder, ascending."""
    return sorted(int(match[1]) for path in root.glob("plans/*.json") if (match := _REVISION.fullmatch(path.name)))


def revision_path(root: Path, number: int) -> Path:
    """Returns where a revision is kept; its configuration is beside it, with ``.yaml``."""
    return root / "plans" / f"{number}.json"


def grown_values(root: Path, newest: Revision, plan: SweepPlan) -> dict[str, Any]:
    """Returns the record of the plan that holds the newest revision's runs and those of ``plan``.

    Args:
        root: The folder, for messages.
        newest: What it holds. Its own fields and runs are taken as they were read.
        plan: What is to be run.

    Raises:
        PlanMismatch: If the runs must not be mixed; all differing fields are listed.
    """
    differences = list(_differences(newest.plan, plan))
    if differences:
        raise PlanMismatch(
            f"{root} holds another sweep ({newest.plan!r}): {'; '.join(differences)}. Runs of both cannot share one "
            f"fit. Nothing was changed. Choose {OTHER_FOLDER}, or go back to the settings of this one."
        )
    known = run_ids(newest.plan)
    added = [e for e in plan.experiments if e.experiment_id not in known]
    records = {str(run["experiment_id"]): run for run in newest.values["experiments"]}
    runs = sorted((*newest.plan.experiments, *added), key=_place)
    cells = {(e.size_param_value, e.compute_budget) for e in runs}
    rejected = [r for r in plan.rejected if (r.size_param_value, r.compute_budget) not in cells]
    named = {(r.size_param_value, r.compute_budget) for r in rejected} | cells
    older = [
        raw
        for raw, r in zip(newest.values["rejected"], newest.plan.rejected, strict=True)
        if (r.size_param_value, r.compute_budget) not in named
    ]
    values = {
        **newest.values,
        "experiments": [records.get(e.experiment_id) or to_plain(e) for e in runs],
        "rejected": [*older, *to_plain(rejected)],
        "compute_budgets": sorted({*newest.plan.compute_budgets, *plan.compute_budgets}),
    }
    values.pop("requested", None)
    requested = run_ids(plan)
    return values if len(requested) == len(runs) else {**values, "requested": sorted(requested)}


def refuse_shrinking(root: Path, newest: Revision, plan: SweepPlan) -> None:
    """Refuses a plan that asks for fewer runs than were asked for before; repeating the newest request is allowed.

    Raises:
        PlanMismatch: If it does.
    """
    wanted, held = run_ids(plan), run_ids(newest.plan)
    if not wanted < held:
        return
    asked = {newest.requested, *(_read(revision_path(root, n), n).requested for n in revision_numbers(root))}
    if wanted in asked and not any(wanted < other for other in asked):
        return
    raise PlanMismatch(
        f"{root} holds {len(held)} planned runs, and this plan asks for {len(wanted)} of them and for nothing new. "
        "A plan only grows. Nothing was changed. To go on with all its runs, repeat the newest settings (in its "
        "config.yaml) or run `flops-fit train DIR`; to fit fewer, use --max-compute; for the smaller sweep alone, "
        f"choose {OTHER_FOLDER}."
    )


def run_ids(plan: SweepPlan) -> frozenset[str]:
    """Returns the ids of a plan's runs."""
    return frozenset(e.experiment_id for e in plan.experiments)


def plan_hash(plan: SweepPlan) -> str:
    """Identifies a plan by its runs: 12 hex digits, whatever their order."""
    return hashlib.sha256(canonical_json(sorted(run_ids(plan))).encode()).hexdigest()[:12]


def _read(path: Path, number: int) -> Revision:
    values = read_values(path)
    plan = record_from(SweepPlan, values, path)
    for run in plan.experiments:
        if not ID.fullmatch(run.experiment_id):
            raise InputError(
                f"{path}: got the experiment id {run.experiment_id!r}, expected {ID.pattern}, since ids name files. "
                "flops-fit did not write this plan: restore it from a backup, and trust nothing else in the folder."
            )
    return Revision(number=number, path=path, plan=plan, values=values)


def _place(run: Experiment) -> tuple[float, ...]:
    return run.compute_budget, run.num_params, run.size_param_value, run.seed, run.num_tokens


def _differences(old: SweepPlan, new: SweepPlan) -> Iterator[str]:
    found = [name for name in COMMON if canonical_json(getattr(old, name)) != canonical_json(getattr(new, name))]
    if found != ["task_name"]:
        for name in found:
            yield f"{name} is {getattr(old, name)!r} there and {getattr(new, name)!r} here"
    if old.size_param != new.size_param:
        return
    seen: set[str] = set()
    for run in new.experiments:
        twin = _twin(run, old)
        for name, before, now in _settings_that_differ(twin or old.experiments[0], run, same_size=twin is not None):
            if name not in seen:
                seen.add(name)
                where = f" of {old.size_param}={run.size_param_value}" if twin else ""
                yield f"{name}{where} is {before!r} there and {now!r} here"


def _twin(run: Experiment, plan: SweepPlan) -> Experiment | None:
    """The plan's own record of a run, or a run of the same size, of the same recipe where there is one."""
    of_size = [e for e in plan.experiments if e.size_param_value == run.size_param_value]
    likeness = [(e.experiment_id == run.experiment_id, e.recipe == run.recipe) for e in of_size]
    return of_size[likeness.index(max(likeness))] if of_size else None


def _settings_that_differ(old: Experiment, new: Experiment, *, same_size: bool) -> Iterator[tuple[str, Any, Any]]:
    names = [f.name for f in fields(Recipe) if same_size or f.name not in FOLLOWS_SIZE]
    pairs = {f"recipe.{name}": (getattr(old.recipe, name), getattr(new.recipe, name)) for name in names}
    pairs["tokens_per_sample"] = (old.tokens_per_sample, new.tokens_per_sample)
    if same_size:
        pairs["num_params"] = (old.num_params, new.num_params)
    for name, (before, now) in pairs.items():
        if before != now:
            yield name, before, now
