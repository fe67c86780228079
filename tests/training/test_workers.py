"""Several processes train a sweep: what one would have got, whatever becomes of them."""

import re
from functools import partial

import moody
import pytest
from support import ChainData, TinyLM, make_experiment, sequence_loss

import flops_fit
from flops_fit.api import train_into
from flops_fit.errors import ConfigError, ContractError, LaunchError
from flops_fit.records import SweepPlan
from flops_fit.store import create_store
from flops_fit.training import TrainSettings

WIDTHS, LENGTHS = (8, moody.MOODY_WIDTH, 16), (16 * 200, 16 * 403)


@pytest.fixture
def sweep(tmp_path):
    """Trains a small sweep; returns its results by (width, length), and the runs that progress was called with."""

    def run(workers, make_task=moody.build, *, retry_failed=False, **settings):
        task = make_task()
        runs = [
            make_experiment(experiment_id=f"w{w}-{n}", size_param_value=w, num_tokens=n)
            for n in LENGTHS
            for w in WIDTHS
        ]
        plan = SweepPlan(
            experiments=tuple(runs), rejected=(), model_cls_name="TinyLM", size_param="width", compute_budgets=(1e6,),
            task_fingerprint=task.fingerprint,
        )  # fmt: skip
        store = create_store(tmp_path / f"by-{workers}", plan)
        reported = []
        train_into(
            store, task, TrainSettings(workers=workers, **settings), remake_task=make_task, retry_failed=retry_failed,
            progress=lambda result, left: reported.append(result.experiment.experiment_id),
        )  # fmt: skip
        return {r.experiment.experiment_id: r for r in store.results()}, reported

    return run


def numbers(results):
    """All that is not the clock's."""

    def of(r):
        return r.status, r.loss, r.loss_std_error, r.train_loss, r.tokens_seen, r.steps_from_trunk

    return {name: of(r) for name, r in results.items()}


def test_two_workers_get_what_one_process_gets_and_go_on_when_one_is_killed(sweep, tmp_path, caplog):
    alone, _ = sweep(1, partial(moody.build, folder=str(tmp_path)))
    assert {r.status for r in alone.values()} == {"completed"}
    died = partial(moody.build, "DeadlyOnce", folder=str(tmp_path))
    together, reported = sweep(2, died, checkpoint_seconds=0.0)
    assert (tmp_path / "died").exists()
    assert numbers(together) == numbers(alone)
    assert sorted(reported) == sorted(alone)
    assert "was killed by SIGKILL; another one continues" in caplog.text
    assert (tmp_path / "by-2" / "results.csv").read_text().count("completed") == 6
    assert list((tmp_path / "by-2" / "trunks").iterdir()) == []


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("Broken", "this width is cursed"),
        pytest.param("Deadly", "killed by SIGKILL", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_fails_or_kills_its_workers_is_recorded_and_the_others_are_made(sweep, mood, words):
    results, reported = sweep(2, partial(moody.build, mood))
    of_status = {name: r.status for name, r in results.items()}
    bad = {f"w{moody.MOODY_WIDTH}-{n}" for n in LENGTHS}
    assert of_status == {name: "failed" if name in bad else "completed" for name in of_status}
    assert len(reported) == len(of_status) == 6
    assert all(words in results[name].reason for name in bad)


def test_a_task_that_is_another_one_each_time_is_refused(sweep):
    with pytest.raises(ContractError, match="not the same each time"):
        sweep(2, moody.build_anew)


def test_a_worker_that_cannot_begin_ends_the_command(sweep, monkeypatch):
    monkeypatch.setattr("flops_fit.training.workers.process.sys.executable", "/bin/false")
    with pytest.raises(LaunchError, match="ended with exit code 1 before it could train"):
        sweep(2)


BUDGETS = [1e6, 2e6, 4e6]
GRID = {"min_size": 4, "max_size": 64, "size_multiple": 4, "num_sizes_per_budget": 2}


def find(folder, workers, model=TinyLM, loss=sequence_loss, data=None):
    return flops_fit.find_optimal(
        model, "width", None, data or ChainData(), loss, BUDGETS, output_dir=folder, sweep=GRID,
        train_config={"workers": workers},
    )  # fmt: skip


@pytest.mark.slow
def test_python_callers_have_workers_too(tmp_path):
    one, two = (find(tmp_path / str(n), n) for n in (1, 2))
    assert [r.loss for r in two.run_results] == [r.loss for r in one.run_results]
    assert two.laws.to_plain() == one.laws.to_plain()


class OfANotebook(TinyLM):
    __module__ = "__main__"


def test_what_another_process_cannot_import_is_refused_or_trained_here(tmp_path):
    class Local(TinyLM):
        pass

    for folder, (arguments, words) in enumerate(
        [
            ({"model": OfANotebook}, "OfANotebook is defined in a notebook or in the script that was started"),
            ({"model": Local}, "Local"),
            ({"loss": lambda outputs, targets: sequence_loss(outputs, targets)}, "lambda"),
        ]
    ):
        with pytest.raises(ConfigError, match=rf"train\.workers.*{words}.*train\.workers=1") as error:
            find(tmp_path / str(folder), 2, **arguments)
        assert not list((tmp_path / str(folder)).glob("results/*")), error
    assert find(tmp_path / "auto", "auto", model=OfANotebook).run_results


@pytest.mark.parametrize("workers", [0, -1, "abc", 1.5, True])
def test_a_wrong_number_of_workers_is_refused(tmp_path, workers):
    with pytest.raises(ConfigError, match=rf"train\.workers|workers: got {re.escape(repr(workers))}"):
        find(tmp_path / "out", workers)
    assert not (tmp_path / "out").exists()
