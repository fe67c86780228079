"""Publishing revisions of a plan, by any number of processes at once, each of which may be killed at any moment."""

from pathlib import Path

from flops_fit.errors import PlanMismatch
from flops_fit.files import is_temporary, publish, replace_file
from flops_fit.records import SweepPlan
from flops_fit.store.plans import (
    OTHER_FOLDER,
    Revision,
    grown_values,
    newest_revision,
    refuse_shrinking,
    revision_numbers,
    revision_path,
    run_ids,
)
from flops_fit.store.record_files import record_bytes

# A folder that holds nothing but these, empty, is new: someone was stopped before the plan was there.
OWN_FOLDERS = ("results", "ends", "runs", "claims", "plans", "trunks")


def revise(root: Path, plan: SweepPlan, config: str | None, *, is_whole: bool) -> None:
    """Publishes revisions until the newest one holds ``plan`` and ``config``; who loses a race looks again.

    Args:
        root: The folder.
        plan: What is to be run.
        config: Text of ``config.yaml``; None leaves it.
        is_whole: Whether ``plan`` is the whole sweep, which may then not be smaller than before.

    Raises:
        PlanMismatch: If ``plan`` must not be mixed with what the folder holds.
        InputError: If the plan there cannot be read.
        StoreError: If the disk refuses.
    """
    while True:
        newest = newest_revision(root)
        if newest is None:
            _refuse_foreign(root)
            publish(revision_path(root, 1), record_bytes(plan))
            continue
        if is_whole:
            refuse_shrinking(root, newest, plan)
        values = grown_values(root, newest, plan)
        if newest.number == 0:
            _adopt(root, newest)
        elif not run_ids(plan) <= run_ids(newest.plan) or not _has_config(newest, config):
            publish(revision_path(root, newest.number + 1), record_bytes(values))
        else:
            break
    _refresh_views(root)


def _has_config(revision: Revision, config: str | None) -> bool:
    """Whether this is the revision's configuration; one without any, such as after a kill, takes it over."""
    if config is None:
        return True
    path = revision.path.with_suffix(".yaml")
    return publish(path, config.encode()) or path.read_bytes() == config.encode()


def _adopt(root: Path, revision: Revision) -> None:
    """Makes the plan of a folder from before there were revisions its first one."""
    config = root / "config.yaml"
    if config.is_file():
        publish(revision_path(root, 1).with_suffix(".yaml"), config.read_bytes())
    publish(revision_path(root, 1), revision.path.read_bytes())


def _refresh_views(root: Path) -> None:
    """Copies the newest revision to plan.json and config.yaml; again if a newer one came up in the meantime."""
    newest = 0
    while newest != (numbers := revision_numbers(root))[-1]:
        newest = numbers[-1]
        configs = [path for n in numbers if (path := revision_path(root, n).with_suffix(".yaml")).exists()]
        views = {root / "plan.json": revision_path(root, newest)}
        if configs:
            views[root / "config.yaml"] = configs[-1]
        for view, source in views.items():
            data = source.read_bytes()
            if not view.exists() or view.read_bytes() != data:
                replace_file(view, data)


def _refuse_foreign(root: Path) -> None:
    """Refuses a path that holds something else than our own folders, empty."""
    if not root.exists():
        return
    if not root.is_dir():
        raise PlanMismatch(f"{root}: got a file, expected a folder for a sweep. Choose {OTHER_FOLDER}.")
    foreign = [path for path in root.iterdir() if path.name not in OWN_FOLDERS and not is_temporary(path)]
    for name in OWN_FOLDERS:
        foreign += [path for path in (root / name).rglob("*") if not (path.is_dir() or is_temporary(path))]
    # With a plan there by now another process was first, and the files are of that sweep.
    if foreign and newest_revision(root) is None:
        raise PlanMismatch(
            f"{root} holds {min(foreign).relative_to(root)} and no plan.json, so it is not a sweep of ours. "
            f"Nothing was changed. Choose {OTHER_FOLDER} that is new or empty."
        )
