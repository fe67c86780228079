import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flops_fit.errors import InputError, PlanMismatch, StoreError
from flops_fit.files import publish
from flops_fit.planning.isoflop import Subject, SweepSettings, plan_isoflop
from flops_fit.records import ModelProbe, RunResult
from flops_fit.store import create_store, open_store

PROBES = [ModelProbe(size_param_value=w, num_params=w * w, num_params_non_embedding=w * w) for w in (16, 24, 32, 48)]


def make_plan(budgets=(1e7, 3e7)):
    settings = SweepSettings(compute_budgets=budgets)
    return plan_isoflop(PROBES, settings, Subject(model_cls_name="Square", size_param="width", task_name="squares"))


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


def test_opening_a_folder_of_another_plan_is_refused_and_changes_nothing(store):
    store.publish_result(result_of(store.plan.experiments[0]))
    before = files_below(store.root)
    with pytest.raises(PlanMismatch, match="compute_budgets"):
        create_store(store.root, make_plan(budgets=(1e7, 4e7)))
    assert files_below(store.root) == before


def test_a_folder_with_something_else_in_it_is_refused_and_changes_nothing(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(PlanMismatch, match="not a sweep of ours"):
        create_store(tmp_path, make_plan())
    assert files_below(tmp_path) == {"thesis.tex": b"mine"}


def test_a_folder_without_a_plan_is_not_a_sweep(tmp_path):
    with pytest.raises(InputError, match=r"plan\.json"):
        open_store(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": 99}', '{"loss": NaN}'])
def test_a_damaged_record_is_named(store, text):
    path = store.root / "results" / f"{store.plan.experiments[0].experiment_id}.json"
    path.write_text(text)
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


def test_a_result_file_is_strict_json_with_the_whole_experiment(store):
    first = store.plan.experiments[0]
    store.publish_result(replace(result_of(first), environment={"device": "cpu"}))
    text = (store.root / "results" / f"{first.experiment_id}.json").read_text()
    values = json.loads(text)
    assert values["experiment"]["num_params"] == first.num_params
    assert values["environment"] == {"device": "cpu"}
