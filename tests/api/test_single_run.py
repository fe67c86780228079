"""One run outside a grid."""

import pytest
from safetensors import safe_open
from support import RECIPE, ChainData, Interrupted, TinyLM, sequence_loss

import flops_fit
from flops_fit.api import single_run
from flops_fit.data import as_source
from flops_fit.errors import ConfigError, ContractError, PlanError, PlanMismatch
from flops_fit.store import open_store
from flops_fit.tasks import make_task

ENGINE = {"precision": "fp32", "compile": "never"}


def task_of(data, loss_fn=sequence_loss):
    eval_data = as_source(ChainData(64, seed=1))
    return make_task(TinyLM, "width", train_data=as_source(data), eval_data=eval_data, loss_fn=loss_fn)


@pytest.fixture
def train(tmp_path):
    def run(size=8, num_tokens=2400, *, task=None, out="one", **changes):
        changes = {"recipe": RECIPE, "train_config": ENGINE} | changes
        return flops_fit.train_one(task or task_of(ChainData()), size, num_tokens, out=tmp_path / out, **changes)

    return run


def test_a_run_is_trained_on_whole_samples_and_its_weights_are_found(train, tmp_path):
    result = train(num_tokens=2411, train_config={**ENGINE, "keep_weights": "final"})
    # 16 tokens a sample.
    assert (result.status, result.tokens_seen, result.experiment.num_tokens) == ("completed", 2400, 2400)
    assert result.experiment.compute_budget == result.flops_spent
    with safe_open(tmp_path / "one" / result.weights["final"], "pt") as file:
        assert float(file.metadata()["held_out_loss"]) == result.loss


def test_the_same_call_again_trains_nothing(train, monkeypatch):
    first = train()
    monkeypatch.setattr(single_run, "train_sweep", None)
    assert train() == first


def test_other_sizes_seeds_and_tokens_join_the_folder_as_runs_of_one_table(train, tmp_path):
    results = [train(), train(12), train(num_tokens=4800), train(seed=1)]
    assert train() == results[0]
    store = open_store(tmp_path / "one")
    assert len(store.results()) == len(store.run_table()) == 4
    assert len({r.experiment.experiment_id for r in results}) == 4
    # Each is what it would have been alone.
    assert train(num_tokens=4800, out="alone").loss == results[2].loss


def test_an_interrupted_run_goes_on_to_the_bit(train):
    with pytest.raises(KeyboardInterrupt):
        train(task=task_of(Interrupted(90)), train_config={**ENGINE, "checkpoint_seconds": 0.0})
    assert train().loss == train(out="whole").loss


def test_a_failed_run_is_trained_once_more(train):
    class Failing(Interrupted):
        def __getitem__(self, i):
            try:
                return super().__getitem__(i)
            except KeyboardInterrupt:
                raise OSError("the disk is gone") from None

    data = Failing(10**9)
    task = task_of(data)
    assert task.fingerprint  # It reads samples, and planning reads them once.
    assert task.tokens_per_sample == 16
    data.left = 90
    first = train(task=task)
    assert (first.status, first.reason.strip().splitlines()[-1]) == ("failed", "OSError: the disk is gone")
    assert train(task=task).status == "completed"


def test_another_recipe_or_task_needs_another_folder(train):
    train()
    with pytest.raises(PlanMismatch, match=r"recipe.learning_rate of width=8 is 0.01 there and .* output_dir="):
        train(recipe={"max_learning_rate": 0.001})
    with pytest.raises(PlanMismatch, match="task_fingerprint"):
        train(task=task_of(ChainData(seed=7)))


def test_what_cannot_be_trained_is_refused_before_a_folder_is_made(train, tmp_path):
    with pytest.raises(PlanError, match="expected at least 16, the tokens of one sample"):
        train(num_tokens=15)
    with pytest.raises(ContractError, match="no train_data"):
        train(task=make_task(TinyLM, "width", loss_fn=sequence_loss))
    with pytest.raises(ConfigError, match="Did you mean 'schedule'"):
        train(recipe={"shedule": "wsd"})
    with pytest.raises(ConfigError, match="keep_weights"):
        train(train_config={"keep_weights": "all"})
    assert not (tmp_path / "one").exists()
