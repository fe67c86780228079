"""Weights that are kept: which, whole or not at all, and that keeping them changes no run."""

import json
import logging
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support import ChainData, Interrupted, TinyLM, make_experiment

from flops_fit import files
from flops_fit.data import as_source
from flops_fit.errors import StoreError
from flops_fit.records import SweepPlan
from flops_fit.store import create_store, open_store
from flops_fit.tasks import make_task
from flops_fit.training import TrainSettings, train_experiment, train_sweep
from flops_fit.training.evaluation import held_out_loss
from flops_fit.training.sweep import eval_tokens, warn_of_missing_weights


@pytest.fixture
def train(tiny_task, world, tmp_path):
    def run(folder="run", task=tiny_task, experiment=None, **settings):
        path = tmp_path / "runs" / folder
        path.mkdir(parents=True, exist_ok=True)
        settings = TrainSettings(**({"precision": "fp32", "compile": "never"} | settings))
        return train_experiment(task, experiment or make_experiment(), path, world=world, settings=settings)

    return run


def loss_of(path, task, world):
    model = TinyLM(8)
    model.load_state_dict(load_file(path))
    return held_out_loss(task, model, world, 4096)[0]


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def overfitting(tiny_task):
    """Few samples seen again and again: the held-out loss is lowest long before the end."""
    task = replace(tiny_task, train_data=as_source(ChainData(8, length=16)))
    return task, make_experiment(num_tokens=16 * 8 * 100, learning_rate=0.05)


@pytest.mark.parametrize(
    ("keep", "kinds"), [("none", set()), ("final", {"final"}), ("best", {"best"}), ("both", {"final", "best"})]
)
def test_what_is_asked_for_is_kept_and_recorded(train, tmp_path, keep, kinds):
    result = train(keep_weights=keep)
    assert result.weights == {kind: f"runs/run/{kind}_model.safetensors" for kind in kinds}
    assert {p.name for p in (tmp_path / "runs" / "run").glob("*.safetensors")} == {
        f"{kind}_model.safetensors" for kind in kinds
    }


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_the_final_weights_have_the_recorded_loss(train, tiny_task, world, tmp_path, ema_decay):
    result = train(experiment=make_experiment(ema_decay=ema_decay), keep_weights="final")
    path = tmp_path / result.weights["final"]
    assert loss_of(path, tiny_task, world) == result.loss
    assert metadata(path) == {
        "experiment_id": "tiny", "size": "8", "num_params": "344", "step": "19", "tokens_seen": "2400",
        "held_out_loss": repr(result.loss), "ema_decay": str(ema_decay),
    }  # fmt: skip


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_the_best_weights_are_those_of_the_lowest_loss_at_ten_steps(train, tiny_task, world, tmp_path, ema_decay):
    task, experiment = overfitting(tiny_task)
    experiment = replace(experiment, recipe=replace(experiment.recipe, ema_decay=ema_decay))
    result = train(task=task, experiment=experiment, keep_weights="both", log_every=1000)
    best = metadata(tmp_path / result.weights["best"])
    assert int(best["step"]) in range(10, 100, 10)
    assert float(best["held_out_loss"]) < result.loss
    assert loss_of(tmp_path / result.weights["best"], task, world) == float(best["held_out_loss"])
    assert loss_of(tmp_path / result.weights["final"], task, world) == result.loss
    if ema_decay is None:
        # A run that stops there with the same rates: a constant schedule is the only one that does not end.
        flat = replace(experiment.recipe, schedule="constant")
        losses = {
            steps: train(
                f"to {steps}", task, replace(experiment, num_tokens=128 * steps, recipe=flat)
            ).loss for steps in range(10, 110, 10)
        }  # fmt: skip
        kept = train("flat", task, replace(experiment, recipe=flat), keep_weights="best")
        found = metadata(tmp_path / kept.weights["best"])
        assert (int(found["step"]), float(found["held_out_loss"])) == min(losses.items(), key=lambda pair: pair[1])


def test_keeping_weights_changes_no_bit_of_a_run_whose_model_and_data_draw_at_random(train, tiny_task):
    class Moody(TinyLM):
        def forward(self, tokens):
            noise = torch.randn(()) + random.random() + np.random.random()
            return super().forward(tokens) * (1 + 0.01 * noise)

    task = replace(tiny_task, model_cls=Moody)
    for module in (random, np.random):
        module.seed(0)
    plain = train("plain", task)
    for module in (random, np.random):
        module.seed(0)
    kept = train("kept", task, keep_weights="both")
    assert (kept.loss, kept.train_loss) == (plain.loss, plain.train_loss)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_run_interrupted_keeps_the_weights_of_one_that_was_not(train, tiny_task, tmp_path, ema_decay):
    task, experiment = overfitting(tiny_task)
    experiment = replace(experiment, recipe=replace(experiment.recipe, ema_decay=ema_decay))
    whole = train("whole", task, experiment, keep_weights="both")

    class Stopping(Interrupted):
        def __init__(self):
            super().__init__(at=8 * 65)
            self.tokens = ChainData(8, length=16).tokens

    stopped = replace(task, train_data=as_source(Stopping()))
    with pytest.raises(KeyboardInterrupt):
        train("stopped", stopped, experiment, keep_weights="both", checkpoint_seconds=0.0)
    assert not list((tmp_path / "runs" / "stopped").glob("*.safetensors"))
    again = train("stopped", task, experiment, keep_weights="both")
    assert again.loss == whole.loss
    for kind in ("final", "best"):
        paths = tmp_path / whole.weights[kind], tmp_path / again.weights[kind]
        assert metadata(paths[0]) == metadata(paths[1])
        first, second = map(load_file, paths)
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_diverged_run_keeps_no_weights(train, tmp_path):
    experiment = make_experiment(learning_rate=1e4, num_tokens=16 * 2000, max_grad_norm=None)
    result = train(experiment=experiment, keep_weights="both")
    assert (result.status, result.weights) == ("diverged", {})
    assert not list((tmp_path / "runs" / "run").glob("*.safetensors"))


def test_a_disk_that_fills_up_leaves_no_half_weights_and_no_result(train, tmp_path, monkeypatch):
    def fill(tensors, path, metadata):
        path.write_bytes(b"half")
        raise files.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("flops_fit.training.weights.save_file", fill)
    with pytest.raises(StoreError, match=r"final_model.safetensors.*Free some space"):
        train(keep_weights="final")
    assert not list((tmp_path / "runs" / "run").rglob("*final_model*"))


@pytest.fixture
def sweep(tiny_task, world, tmp_path):
    def run(folder, task=tiny_task, **settings):
        runs = tuple(make_experiment(experiment_id=f"run-{n}", num_tokens=n) for n in (3200, 6400, 12800))
        plan = SweepPlan(
            experiments=runs, rejected=(), model_cls_name="TinyLM", size_param="width", compute_budgets=(1e6,)
        )
        store = create_store(tmp_path / folder, plan)
        settings = TrainSettings(precision="fp32", compile="never", **settings)
        train_sweep(task, store.pending(), store, world=world, settings=settings)
        return store

    return run


def test_branches_of_a_trunk_keep_weights_and_their_losses(sweep, tiny_task, world):
    store, plain = sweep("kept", keep_weights="both"), sweep("plain")
    assert [r.loss for r in store.results()] == [r.loss for r in plain.results()]
    assert any(r.steps_from_trunk for r in store.results())
    for r in store.results():
        name = r.experiment.experiment_id
        assert loss_of(store.weights_path(name), tiny_task, world) == r.loss
        best = float(metadata(store.weights_path(name, "best"))["held_out_loss"])
        assert loss_of(store.weights_path(name, "best"), tiny_task, world) == best <= r.loss


def test_weights_are_there_before_the_result(sweep, monkeypatch):
    def stop(self, result, attempt):
        raise KeyboardInterrupt

    monkeypatch.setattr("flops_fit.store.Store.publish_result", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep("stopped", keep_weights="final")
    monkeypatch.undo()
    store = sweep("stopped", keep_weights="final")
    assert all(store.weights_path(r.experiment.experiment_id).is_file() for r in store.results())


def test_of_runs_that_finished_without_weights_this_is_said(sweep, caplog):
    store = sweep("plain")
    caplog.set_level(logging.WARNING)
    warn_of_missing_weights(store.results(), TrainSettings())
    assert not caplog.messages
    warn_of_missing_weights(store.results(), TrainSettings(keep_weights="final"))
    assert caplog.messages == [
        "3 finished runs have no final weights: they were trained without train.keep_weights=final, which holds from "
        "here on. To have theirs too, train them in another folder (out=DIR on the command line, output_dir=... in "
        "Python)."
    ]
    with pytest.raises(StoreError, match="is completed, without final weights"):
        store.weights_path("run-3200")


def test_weights_are_no_part_of_an_id_and_the_record_says_what_was_kept(sweep):
    store = sweep("kept", keep_weights="final")
    path = store.root / "results" / "run-3200.json"
    assert json.loads(path.read_text())["weights"] == {"final": "runs/run-3200/final_model.safetensors"}
    assert open_store(store.root).results() == store.results()


def test_the_time_left_counts_all_evaluations(tiny_task):
    once = eval_tokens(tiny_task, TrainSettings(keep_weights="final"))
    assert eval_tokens(tiny_task, TrainSettings(keep_weights="best")) == 10 * once


def test_tied_weights_are_saved(train, tmp_path, tiny_task):
    class Tied(TinyLM):
        def __init__(self, width):
            super().__init__(width)
            self.head.weight = self.embed.weight

    task = make_task(
        Tied, "width", train_data=tiny_task.train_data, eval_data=tiny_task.eval_data, loss_fn=tiny_task.loss_fn
    )
    result = train(task=task, keep_weights="final")
    Tied(8).load_state_dict(load_file(tmp_path / result.weights["final"]))
