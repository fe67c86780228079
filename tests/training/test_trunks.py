"""Runs of one size share their first steps, and end as if they had not."""

import json
import logging

import pytest
import torch
from support import ChainData, Interrupted, make_experiment

from flops_fit.data import as_source
from flops_fit.recipes.schedules import SCHEDULES, learning_rate, trunk_steps
from flops_fit.records import SweepPlan
from flops_fit.store import create_store
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_experiment, train_sweep

LENGTHS = (16 * 403, 16 * 200, 16 * 800)


def make_runs(**changes):
    return [make_experiment(experiment_id=f"run-{n}", num_tokens=n, **changes) for n in LENGTHS]


@pytest.fixture
def sweep(tiny_task, world, tmp_path):
    """Trains runs into a store and returns its results by id."""

    def run(folder, runs, task=tiny_task, **settings):
        plan = SweepPlan(
            experiments=tuple(runs), rejected=(), model_cls_name="TinyLM", size_param="width", compute_budgets=(1e6,)
        )
        store = create_store(tmp_path / folder, plan)
        train_sweep(task, runs, store, world=world, settings=TrainSettings(**settings))
        return {r.experiment.experiment_id: r for r in store.results()}, store.root

    return run


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_trunk_is_all_full_steps_that_no_longer_run_takes_otherwise(schedule):
    for total in (1600, 1616, 6400):
        experiment = make_experiment(num_tokens=total, schedule=schedule)
        recipe, batch = experiment.recipe, experiment.recipe.batch_tokens

        def is_common(step, recipe=recipe, batch=batch, total=total):
            alike = learning_rate(recipe, step * batch, total) == learning_rate(recipe, step * batch, 10 * total)
            # Where a schedule begins at its peak, the first steps are alike by chance.
            return alike and schedule not in ("cosine", "linear")

        steps = trunk_steps(recipe, total)
        assert all(is_common(step) for step in range(steps))
        # The last step is a run's own, and so is a partial one.
        assert steps == experiment.num_steps - 1 or not is_common(steps)


@pytest.mark.parametrize(("schedule", "ema_decay"), [("wsd", None), ("wsd", 0.95), ("constant", None)])
def test_a_branch_is_equal_to_the_bit_to_the_run_alone(sweep, schedule, ema_decay):
    runs = make_runs(schedule=schedule, ema_decay=ema_decay)
    shared, _ = sweep("shared", runs)
    alone, _ = sweep("alone", runs, share_trunks=False)
    for name, result in shared.items():
        assert (result.loss, result.train_loss, result.tokens_seen, result.steps) == (
            alone[name].loss, alone[name].train_loss, alone[name].tokens_seen, alone[name].steps
        )  # fmt: skip
    # The shorter run's steps before its decay are not made again: 160 of 200 samples in steps of 8, and one more.
    taken = {name: result.steps_from_trunk for name, result in shared.items()}
    assert taken[f"run-{16 * 200}"] == 0
    assert taken[f"run-{16 * 403}"] == (21 if schedule == "wsd" else 24)


def test_the_flops_that_trunks_save_are_logged(sweep, caplog):
    with caplog.at_level(logging.INFO):
        results, _ = sweep("shared", make_runs())
    saved = {name: r.flops_from_trunk for name, r in results.items()}
    # 21 steps of 128 tokens at 1200 FLOPs each.
    assert saved[f"run-{16 * 403}"] == 21 * 128 * 1200.0
    assert "were shared along trunks" in caplog.text


def test_other_seeds_sizes_and_recipes_have_their_own_trunk(sweep):
    runs = [*make_runs(), *(e for e in make_runs(seed=1, learning_rate=0.02))]
    runs = [make_experiment(**{**vars(e), "recipe": e.recipe, "experiment_id": f"{i}"}) for i, e in enumerate(runs)]
    shared, _ = sweep("shared", runs)
    alone, _ = sweep("alone", runs, share_trunks=False)
    assert {k: r.loss for k, r in shared.items()} == {k: r.loss for k, r in alone.items()}


def test_nothing_is_left_of_a_trunk_that_no_run_waits_for(sweep):
    _, root = sweep("shared", make_runs())
    assert list((root / "trunks").iterdir()) == []


def test_a_finished_run_keeps_its_metrics_and_no_checkpoints(sweep):
    _, root = sweep("shared", make_runs(), checkpoint_seconds=0.0)
    for folder in (root / "runs").iterdir():
        assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]


def test_a_trunk_of_another_arithmetic_is_not_used(tiny_task, world, tmp_path):
    def run(length, folder, precision):
        (tmp_path / folder).mkdir()
        return train_experiment(
            tiny_task, make_experiment(num_tokens=length), tmp_path / folder, world=world,
            settings=TrainSettings(precision=precision), trunk_dir=tmp_path / "trunk",
        )  # fmt: skip

    run(16 * 200, "short", "bf16")
    assert run(16 * 403, "long", "fp32").steps_from_trunk == 0


@pytest.mark.parametrize("at", [100, 250, 390, 600, 800])
@pytest.mark.parametrize("ema_decay", [None, 0.95])
def test_a_sweep_interrupted_on_trunk_or_branch_ends_with_the_same_bits(sweep, tiny_task, at, ema_decay):
    whole, _ = sweep("whole", make_runs(ema_decay=ema_decay))
    task = make_task(
        tiny_task.model_cls, "width", train_data=as_source(Interrupted(at)), eval_data=tiny_task.eval_data,
        loss_fn=tiny_task.loss_fn,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        sweep("stopped", make_runs(ema_decay=ema_decay), task=task, checkpoint_seconds=0.0)
    again, _ = sweep("stopped", make_runs(ema_decay=ema_decay), checkpoint_seconds=0.0)
    assert {k: r.loss for k, r in again.items()} == {k: r.loss for k, r in whole.items()}


def test_fp16_goes_on_with_the_loss_scale_it_had(tiny_task, world, tmp_path):
    def steep(logits, targets):
        return 1000 * tiny_task.loss_fn(logits, targets)

    def run(folder, at=None):
        (tmp_path / folder).mkdir(exist_ok=True)
        data = as_source(ChainData() if at is None else Interrupted(at))
        task = make_task(tiny_task.model_cls, "width", train_data=data, eval_data=tiny_task.eval_data, loss_fn=steep)
        settings = TrainSettings(precision="fp16", checkpoint_seconds=0.0, keep_checkpoints=99)
        return train_experiment(
            task, make_experiment(num_tokens=16 * 150), tmp_path / folder, world=world, settings=settings
        )

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", at=100)
    saved = sorted((tmp_path / "stopped" / "checkpoints").iterdir())
    scales = [json.loads((path / "state.json").read_text())["scaler"]["scale"] for path in saved]
    # Gradients of this loss overflow at first; a run that went on with the scale of the beginning would leave out
    # steps once more.
    assert scales[-1] < 2**16
    assert run("stopped").loss == whole.loss
    assert torch.isfinite(torch.tensor(whole.loss))
