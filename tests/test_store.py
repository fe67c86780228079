import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flops_fit import files
from flops_fit.errors import InputError, PlanMismatch, StoreError
from flops_fit.files import publish, replace_large_file
from flops_fit.imports.runs import read_runs
from flops_fit.planning.isoflop import Subject, plan_isoflop
from flops_fit.planning.recipe import RecipeRule
from flops_fit.planning.settings import SweepSettings
from flops_fit.records import ModelProbe, Rejection, RunResult
from flops_fit.store import add_runs, create_store, open_store, revising

WIDTHS = (16, 24, 32, 48)
PROBES = [ModelProbe(size_param_value=w, num_params=w * w, num_params_non_embedding=w * w) for w in WIDTHS]
SUBJECT = Subject(model_cls_name="Square", size_param="width", task_name="squares", task_fingerprint="f00d")


def make_plan(budgets=(1e7, 3e7), *, probes=PROBES, subject=SUBJECT, **settings):
    return plan_isoflop(probes, SweepSettings(compute_budgets=budgets, **settings), subject)


def ids(plan):
    return {e.experiment_id for e in plan.experiments}


def result_of(experiment, **changes):
    values = {
        "experiment": experiment, "status": "completed", "loss": 2.5, "loss_std_error": 0.01,
        "tokens_seen": experiment.num_tokens, "flops_spent": experiment.compute_budget, "wall_seconds": 1.0,
    }  # fmt: skip
    return RunResult(**(values | changes))


@pytest.fixture
def store(tmp_path):
    return create_store(tmp_path / "sweep", make_plan())


def files_below(root: Path):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_the_plan_read_back_is_the_plan_written(store):
    assert open_store(store.root).plan == make_plan()


def test_a_published_result_is_read_back_and_no_longer_pending(store):
    first = store.plan.experiments[0]
    store.publish_result(result_of(first))
    assert store.results() == (result_of(first),)
    assert first not in store.pending()


def test_a_result_is_never_rewritten(store):
    first = store.plan.experiments[0]
    store.publish_result(result_of(first, loss=2.5))
    store.publish_result(result_of(first, loss=9.9))
    assert store.results()[0].loss == 2.5


def test_a_failed_run_is_kept_with_its_reason_and_can_be_retried(store):
    first = store.plan.experiments[0]
    store.publish_result(result_of(first, status="failed", loss=None, reason="ValueError: bad width"))
    assert first not in store.pending()
    assert first in store.pending(retry_failed=True)
    store.publish_result(result_of(first))
    assert store.results()[0].status == "completed"
    assert len(list((store.root / "ends").iterdir())) == 1


def test_runs_that_did_not_complete_are_listed_and_not_fitted(store):
    first, second = store.plan.experiments[:2]
    store.publish_result(result_of(first))
    store.publish_result(result_of(second, status="diverged", loss=None, reason="loss was inf at step 3"))
    table = store.run_table()
    assert table.source == (first.experiment_id,)
    reasons = {e.source: e.reason for e in table.excluded}
    assert reasons[second.experiment_id] == "diverged: loss was inf at step 3"
    assert len(reasons) == store.plan.num_experiments - 1


def test_a_folder_without_a_plan_is_not_a_sweep(tmp_path):
    with pytest.raises(InputError, match=r"plan\.json"):
        open_store(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": 99}', '{"loss": NaN}'])
def test_a_damaged_record_is_named(store, text):
    path = store.root / "results" / f"{store.plan.experiments[0].experiment_id}.json"
    publish(path, text.encode())
    with pytest.raises(InputError, match=path.name):
        store.results()


def test_a_full_disk_leaves_no_half_file_and_says_what_to_do(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="Free some space"):
        publish(tmp_path / "a.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_lost_reply_of_a_network_file_system_is_recognised(tmp_path, monkeypatch):
    real_link = os.link

    def link_then_fail(source, target):
        real_link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link_then_fail)
    assert publish(tmp_path / "a.json", b"{}")


@pytest.mark.slow
def test_of_many_writers_exactly_one_wins(tmp_path):
    code = (
        "import sys; from pathlib import Path; from flops_fit.files import publish\n"
        "print(sum(publish(Path(sys.argv[1]) / f'{i}.json', sys.argv[2].encode()) for i in range(200)))"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path, str(w)], stdout=subprocess.PIPE) for w in range(4)
    ]
    wins = [int(w.communicate()[0]) for w in writers]
    assert sum(wins) == 200
    assert len(list(tmp_path.iterdir())) == 200


def test_a_view_is_replaced_whole(store):
    store.write_view("fit.json", "old")
    store.write_view("fit.json", "new")
    assert (store.root / "fit.json").read_text() == "new"
    assert not [p for p in store.root.iterdir() if p.name.startswith(".")]


def test_the_results_view_has_a_row_per_finished_run(store):
    for e in store.plan.experiments:
        store.publish_result(result_of(e))
    lines = store.results_csv().splitlines()
    assert len(lines) == 1 + store.plan.num_experiments
    assert {"C", "N", "D", "loss", "status"} <= set(lines[0].split(","))


def test_known_standard_errors_reach_the_fit_by_the_table_and_by_the_view(store):
    for experiment, error in zip(store.plan.experiments, (0.01, None, 0.0), strict=False):
        store.publish_result(result_of(experiment, loss_std_error=error))
    store.write_view("results.csv", store.results_csv())
    for table in (store.run_table(), read_runs(store.root / "results.csv")):
        # An error of zero is that of an evaluation too small to know it.
        assert np.array_equal(np.sort(table.loss_std_error), [0.01, np.nan, np.nan], equal_nan=True)


def test_a_result_file_is_strict_json_with_the_whole_experiment(store):
    first = store.plan.experiments[0]
    store.publish_result(replace(result_of(first), environment={"device": "cpu"}))
    text = (store.root / "results" / f"{first.experiment_id}.json").read_text()
    values = json.loads(text)
    assert values["experiment"]["num_params"] == first.num_params
    assert values["environment"] == {"device": "cpu"}


# Growing


def test_ids_are_those_of_the_first_version():
    # Computed at commit f3f7ba8, with its default learning rate; a change would train every existing sweep anew.
    plan = make_plan(recipe=RecipeRule(learning_rate=0.0047, max_learning_rate=0.01))
    assert plan.experiments[0].experiment_id == "029c5cb8040cd154"


@pytest.mark.parametrize(
    "larger",
    [
        pytest.param({"budgets": (1e7, 3e7, 9e7)}, id="a budget above"),
        pytest.param({"budgets": (1e7, 2e7, 3e7)}, id="a budget between"),
        pytest.param({"num_seeds": 2}, id="a seed"),
        pytest.param({"probes": [*PROBES, replace(PROBES[0], size_param_value=20, num_params=400)]}, id="a size"),
    ],
)
def test_a_sweep_grows_into_the_one_that_was_planned_at_once(store, larger):
    first = store.plan.experiments[0]
    store.publish_result(result_of(first))
    before = files_below(store.root / "results")
    grown = create_store(store.root, make_plan(**larger))
    assert grown.plan == make_plan(**larger)
    assert open_store(store.root).plan == grown.plan
    assert grown.results() == (result_of(first),)
    assert ids(grown.plan) - {e.experiment_id for e in grown.pending()} == {first.experiment_id}
    assert files_below(store.root / "results") == before


def test_each_revision_and_its_configuration_are_kept(tmp_path):
    first = create_store(tmp_path, make_plan((1e7,)), config="out: 1")
    kept = files_below(tmp_path / "plans")
    first.extend(make_plan((1e7, 3e7)), config="out: 2")
    assert files_below(tmp_path / "plans").items() >= kept.items()
    assert sorted(files_below(tmp_path / "plans")) == ["1.json", "1.yaml", "2.json", "2.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "out: 2"
    assert (tmp_path / "plan.json").read_bytes() == (tmp_path / "plans" / "2.json").read_bytes()


def test_the_same_request_again_changes_nothing(tmp_path):
    create_store(tmp_path, make_plan(), config="out: 1")
    before = files_below(tmp_path)
    create_store(tmp_path, make_plan(), config="out: 1")
    assert files_below(tmp_path) == before


def test_another_configuration_of_the_same_runs_is_a_revision(tmp_path):
    create_store(tmp_path, make_plan(), config="workers: 1")
    grown = create_store(tmp_path, make_plan(), config="workers: 2")
    assert grown.plan == make_plan()
    assert (tmp_path / "plans" / "1.yaml").read_text() == "workers: 1"
    assert (tmp_path / "config.yaml").read_text() == "workers: 2"


def test_another_grid_is_united_with_the_old_one_and_resumes(tmp_path):
    old, new = make_plan((1e7, 3e7)), make_plan((3e7, 9e7))
    create_store(tmp_path, old)
    united = create_store(tmp_path, new)
    assert united.plan == make_plan((1e7, 3e7, 9e7))
    before = files_below(tmp_path)
    assert create_store(tmp_path, new).plan == united.plan
    assert files_below(tmp_path) == before


def test_a_plan_that_shrinks_is_refused_and_changes_nothing(store):
    grown = store.extend(make_plan((1e7, 3e7, 9e7)))
    before = files_below(store.root)
    for smaller in (make_plan(), make_plan((9e7,))):
        with pytest.raises(PlanMismatch, match="A plan only grows"):
            grown.extend(smaller)
    assert files_below(store.root) == before


def test_a_cell_that_has_a_run_is_no_longer_listed_as_rejected(tmp_path):
    whole = make_plan()
    cell = whole.experiments[0]
    rejected = Rejection(size_param_value=cell.size_param_value, compute_budget=cell.compute_budget, reason="few")
    create_store(tmp_path, replace(whole, experiments=whole.experiments[1:], rejected=(rejected,)))
    assert create_store(tmp_path, whole).plan == whole


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"subject": replace(SUBJECT, task_fingerprint="beef")}, ["task_fingerprint is 'f00d' there and 'beef' here"]),
        ({"subject": replace(SUBJECT, model_kwargs={"depth": 2})}, ["model_kwargs is {} there and {'depth': 2} here"]),
        (
            {"subject": replace(SUBJECT, size_param="d_model", data_unit="images")},
            ["size_param is 'width' there and 'd_model' here", "data_unit is 'tokens' there and 'images' here"],
        ),
        ({"flops_per_param_per_token": 8.0}, ["flops_convention is '6N' there and '8N' here"]),
        (
            {"recipe": RecipeRule(max_learning_rate=0.02, schedule="cosine")},
            ["recipe.learning_rate of width=16 is 0.03 there and 0.02 here", "recipe.schedule", "'wsd'", "'cosine'"],
        ),
        # Of sizes that are new, what follows from N cannot be compared, and the rest must be the same.
        (
            {"recipe": RecipeRule(weight_decay=0.0), "probes": [replace(p, size_param_value=p.size_param_value + 1)
                                                                for p in PROBES]},
            ["recipe.weight_decay is 0.1 there and 0.0 here"],
        ),
        (
            {"probes": [replace(p, num_params=p.num_params + 8) for p in PROBES]},
            ["num_params of width=16 is 256 there and 264 here"],
        ),
    ],
)  # fmt: skip
def test_a_sweep_that_must_not_be_mixed_in_is_refused_with_each_differing_field(store, other, words):
    store.publish_result(result_of(store.plan.experiments[0]))
    before = files_below(store.root)
    with pytest.raises(PlanMismatch) as error:
        create_store(store.root, make_plan((1e7, 3e7, 9e7), **other))
    for word in [*words, "Nothing was changed", "out=DIR on the command line, output_dir=... in Python"]:
        assert word in str(error.value)
    assert files_below(store.root) == before


def test_single_runs_are_added_in_any_order_and_known_ones_are_no_change(tmp_path):
    whole = make_plan()
    for run in (*whole.experiments, whole.experiments[0]):
        add_runs(tmp_path, replace(whole, experiments=(run,), rejected=()))
    assert open_store(tmp_path).plan.experiments == whole.experiments
    assert len(list((tmp_path / "plans").iterdir())) == whole.num_experiments
    # The grid itself can still be asked for.
    assert ids(create_store(tmp_path, whole).plan) == ids(whole)


def test_a_folder_from_before_there_were_revisions_grows_too(tmp_path):
    create_store(tmp_path / "new", make_plan())
    publish(tmp_path / "old" / "plan.json", (tmp_path / "new" / "plan.json").read_bytes())
    publish(tmp_path / "old" / "config.yaml", b"out: old")
    assert open_store(tmp_path / "old").plan == make_plan()
    create_store(tmp_path / "old", make_plan((1e7, 3e7, 9e7)), config="out: new")
    kept = files_below(tmp_path / "old" / "plans")
    assert kept["1.yaml"] == b"out: old"
    assert kept["1.json"] == (tmp_path / "new" / "plan.json").read_bytes()
    assert open_store(tmp_path / "old").plan == make_plan((1e7, 3e7, 9e7))


# Stopped and raced


class Killed(BaseException):
    pass


@pytest.mark.parametrize("is_grown", [False, True])
def test_a_start_killed_at_any_write_is_made_good_by_the_next(tmp_path, monkeypatch, is_grown):
    """Every write is a publish or a replace; the process ends before the k-th, and in the middle of it."""
    plan, config = make_plan((1e7, 3e7, 9e7)), "out: new"
    for kill in range(20):
        root = tmp_path / str(kill)
        if is_grown:
            create_store(root, make_plan(), config="out: old")
        left = [kill]

        def dying(act, left=left):
            def write(path, data):
                if left[0] == 0:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.with_name(f".{path.name}.{'0' * 32}").write_bytes(data[:7])
                    raise Killed
                left[0] -= 1
                return act(path, data)

            return write

        with monkeypatch.context() as patch:
            patch.setattr(revising, "publish", dying(revising.publish))
            patch.setattr(revising, "replace_file", dying(revising.replace_file))
            try:
                create_store(root, plan, config=config)
                break
            except Killed:
                pass
        if (root / "plan.json").exists() or (root / "plans" / "1.json").exists():
            assert open_store(root).plan in (make_plan(), plan)
        store = create_store(root, plan, config=config)
        assert store.plan == open_store(root).plan == plan
        assert (root / "config.yaml").read_text() == config
        newest = max((root / "plans").glob("[0-9].json"))
        assert (root / "plan.json").read_bytes() == newest.read_bytes()
    assert kill == 4  # plan, its configuration, and a view of each.


def test_a_folder_with_only_our_own_empty_folders_is_new(tmp_path):
    for name in ("results", "ends", "runs", "claims", "plans"):
        (tmp_path / name).mkdir()
    (tmp_path / "runs" / "abc").mkdir()
    assert create_store(tmp_path, make_plan()).plan == make_plan()


@pytest.mark.parametrize("name", ["thesis.tex", "results/mine.csv", "notes/todo"])
def test_a_folder_with_something_else_in_it_is_refused_and_changes_nothing(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(PlanMismatch, match="not a sweep of ours"):
        create_store(tmp_path, make_plan())
    assert files_below(tmp_path) == {name: b"mine"}


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(PlanMismatch, match="got a file, expected a folder"):
        create_store(tmp_path / "out", make_plan())


RACE = """
import multiprocessing, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store import ids, make_plan
from flops_fit.errors import PlanMismatch
from flops_fit.planning.recipe import RecipeRule
from flops_fit.store import create_store, open_store

context = multiprocessing.get_context("fork")
barrier = context.Barrier(8)
BUDGETS = (1e7, 2e7, 3e7, 5e7, 9e7, 2e8, 3e8, 5e8)

def plan_of(kind, worker):
    if kind == "other":
        return make_plan(recipe=RecipeRule(weight_decay=0.1 * worker))
    return make_plan() if kind == "same" else make_plan((1e7, BUDGETS[worker]))

def start(worker, outcomes):
    for turn in range({rounds}):
        for kind in ("same", "other", "grow"):
            root = Path(sys.argv[1]) / kind / str(turn)
            plan = plan_of(kind, worker)
            barrier.wait()
            try:
                store = create_store(root, plan, config=kind)
                outcomes.put((kind, turn, ids(plan) <= ids(store.plan)))
            except PlanMismatch:
                outcomes.put((kind, turn, "refused"))

outcomes = context.Queue()
workers = [context.Process(target=start, args=(i, outcomes)) for i in range(8)]
for worker in workers:
    worker.start()
found = [outcomes.get(timeout=60) for _ in range(8 * 3 * {rounds})]
for worker in workers:
    worker.join()
for turn in range({rounds}):
    by_kind = {{kind: [o for k, t, o in found if (k, t) == (kind, turn)] for kind in ("same", "other", "grow")}}
    assert by_kind["same"] == [True] * 8, by_kind
    assert sorted(map(str, by_kind["other"])) == ["True"] + ["refused"] * 7, by_kind
    assert by_kind["grow"].count(True) >= 7, by_kind
    root = Path(sys.argv[1]) / "grow" / str(turn)
    assert (root / "plan.json").read_bytes() == max(
        (root / "plans").glob("*.json"), key=lambda p: int(p.stem)).read_bytes()
    # The smallest alone can come too late; the others each add a budget.
    assert ids(open_store(root).plan) == {{i for w in range(8) for i in ids(plan_of("grow", w))}}
print("well")
"""


def test_processes_that_start_at_once_agree(tmp_path):
    """One plan: all succeed. Different sweeps: one does. Sweeps that can grow into one another: no run is lost."""
    code = RACE.format(tests=str(Path(__file__).parent), rounds=5)
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.stdout == "well\n", done.stderr[-3000:]


# Records of other versions


def test_what_a_newer_version_added_is_ignored_and_survives_a_revision(store):
    first = store.plan.experiments[0]
    store.publish_result(result_of(first))
    path = store.root / "results" / f"{first.experiment_id}.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "energy_joules": 3.0}))
    assert store.results() == (result_of(first),)

    path = store.root / "plans" / "1.json"
    values = json.loads(path.read_text())
    values["cluster"] = {"nodes": 2}
    values["experiments"][0] |= {"priority": 7}
    values["experiments"][0]["recipe"] |= {"lookahead": None}
    path.write_text(json.dumps(values))
    grown = open_store(store.root).extend(make_plan((1e7, 3e7, 9e7)))
    assert grown.plan == make_plan((1e7, 3e7, 9e7))
    newest = json.loads((store.root / "plan.json").read_text())
    assert newest["cluster"] == {"nodes": 2}
    assert newest["experiments"][0]["priority"] == 7
    assert newest["experiments"][0]["recipe"] == values["experiments"][0]["recipe"]


def test_a_run_whose_recipe_only_a_newer_version_knows_is_read_and_not_trained(store):
    path = store.root / "plans" / "1.json"
    values = json.loads(path.read_text())
    values["experiments"][0]["recipe"]["lookahead"] = 5
    path.write_text(json.dumps(values))
    newer = open_store(store.root)
    with pytest.raises(InputError, match=r"recipe\.lookahead.*Update flops-fit"):
        newer.pending()
    newer.publish_result(result_of(newer.plan.experiments[0]))
    assert len(newer.pending()) == newer.plan.num_experiments - 1


@pytest.mark.parametrize("name", ["plans/1.json", "results"])
def test_a_record_of_another_schema_version_names_both_and_advises_an_update(store, name):
    if name == "results":
        store.publish_result(result_of(store.plan.experiments[0]))
        name = f"results/{store.plan.experiments[0].experiment_id}.json"
    path = store.root / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))
    with pytest.raises(InputError, match="got schema version 2, this flops-fit reads version 1") as error:
        open_store(store.root).results()
    assert "update flops-fit" in str(error.value)
    assert "remove" not in str(error.value)
    assert "delete" not in str(error.value)


# Large files


def test_a_large_file_appears_whole_and_leftovers_of_killed_writers_go(tmp_path):
    path = tmp_path / "runs" / "a" / "weights"
    left = path.parent / f".weights.{'0' * 32}"
    (left / "deep").mkdir(parents=True)
    os.utime(left, (0, 0))

    def fail(target):
        target.write_bytes(b"ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="Free some space"):
        replace_large_file(path, fail)
    assert list(path.parent.iterdir()) == []
    replace_large_file(path, lambda target: target.write_bytes(b"whole"))
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_met_by_safetensors_is_a_storage_error(tmp_path):
    message = "Error while serializing: I/O error: No space left on device (os error 28)"

    def fail(target):
        raise files.SafetensorError(message)

    with pytest.raises(StoreError, match="Free some space"):
        replace_large_file(tmp_path / "weights", fail)
