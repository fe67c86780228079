import json

import numpy as np
import pytest
import torch
from support import ChainData
from torch import nn
from torch.utils.data import TensorDataset

import flops_fit
from flops_fit.errors import ConfigError, ContractError, FitError, PlanError, PlanMismatch, StoreError
from flops_fit.store import create_store

BUDGETS = [1e6, 2e6, 4e6, 8e6, 1.6e7]
GRID = {"min_size": 4, "max_size": 64, "size_multiple": 4, "num_sizes_per_budget": 4}


@pytest.fixture(autouse=True)
def _no_report(request, monkeypatch):
    """Leaves out the report, seconds of figures each, in tests whose names do not ask for it."""
    if "report" not in request.node.name and "every_file" not in request.node.name:
        monkeypatch.setattr(flops_fit.Result, "report", lambda self: None)


@pytest.fixture
def mocked(tmp_path, tiny_lm):
    def run(**changes):
        arguments = {
            "compute_budgets": BUDGETS,
            "mode": "mock",
            "output_dir": tmp_path / "out",
            "sweep": GRID,
        }
        return flops_fit.find_optimal(tiny_lm, "width", **(arguments | changes))

    return run


def losses(result):
    return {r.experiment.experiment_id: r.loss for r in result.run_results}


def test_without_training_the_plan_is_returned_and_nothing_is_written(tmp_path, tiny_lm):
    plan = flops_fit.find_optimal(
        tiny_lm, "width", compute_budgets=BUDGETS, train=False, sweep=GRID, output_dir=tmp_path / "out"
    )
    assert isinstance(plan, flops_fit.SweepPlan)
    assert not (tmp_path / "out").exists()


def test_without_data_the_plan_is_returned(tiny_lm):
    assert isinstance(
        flops_fit.find_optimal(tiny_lm, "width", compute_budgets=BUDGETS, sweep=GRID), flops_fit.SweepPlan
    )


def test_mock_mode_makes_no_forward_pass(mocked, tiny_lm, monkeypatch):
    def forbidden(self, *_):
        raise AssertionError("a forward pass was made")

    monkeypatch.setattr(tiny_lm, "forward", forbidden)
    assert isinstance(mocked(), flops_fit.Result)


def test_mock_losses_lie_between_1_5_and_15(mocked):
    values = np.array(list(losses(mocked()).values()))
    assert ((values > 1.5) & (values < 15)).all()


def test_mock_losses_repeat_with_the_seed_and_change_with_it(mocked, tmp_path):
    one = losses(mocked(output_dir=tmp_path / "a"))
    again = losses(mocked(output_dir=tmp_path / "b"))
    other = losses(mocked(output_dir=tmp_path / "c", seed=1))
    assert one == again
    assert set(one.values()).isdisjoint(other.values())


def test_a_real_sweep_trains_each_run_and_gives_a_result(tmp_path, tiny_lm, chain_data, sequence_loss_fn):
    result = flops_fit.find_optimal(
        tiny_lm, "width", None, chain_data, sequence_loss_fn, BUDGETS, output_dir=tmp_path, sweep=GRID
    )
    for r in result.run_results:
        assert r.status == "completed"
        assert abs(r.tokens_seen - r.experiment.num_tokens) < r.experiment.tokens_per_sample
        # Exactly what was counted on the model, and within one sample of the budget.
        one_sample = r.experiment.flops_per_token * r.experiment.tokens_per_sample
        assert r.experiment.compute_budget - r.flops_spent <= one_sample
        assert 0 < r.loss < np.log(16) + 0.5


def test_calling_again_trains_nothing_and_gives_the_same(tmp_path, tiny_lm, chain_data, sequence_loss_fn, monkeypatch):
    arguments = (tiny_lm, "width", None, chain_data, sequence_loss_fn, BUDGETS[:2])
    first = flops_fit.find_optimal(*arguments, output_dir=tmp_path, sweep=GRID)
    before = sorted(p.stat().st_mtime_ns for p in (tmp_path / "results").iterdir())
    second = flops_fit.find_optimal(*arguments, output_dir=tmp_path, sweep=GRID)
    assert losses(first) == losses(second)
    assert before == sorted(p.stat().st_mtime_ns for p in (tmp_path / "results").iterdir())


def test_an_interrupted_sweep_ends_with_the_same_results(tmp_path, tiny_lm, chain_data, sequence_loss_fn):
    arguments = (tiny_lm, "width", None, chain_data, sequence_loss_fn, BUDGETS[:2])
    whole = flops_fit.find_optimal(*arguments, output_dir=tmp_path / "a", sweep=GRID)
    flops_fit.find_optimal(*arguments, output_dir=tmp_path / "b", sweep=GRID)
    for path in sorted((tmp_path / "b" / "results").iterdir())[::2]:
        path.unlink()
    resumed = flops_fit.find_optimal(*arguments, output_dir=tmp_path / "b", sweep=GRID)
    assert losses(whole) == losses(resumed)


def test_an_unknown_mode_names_the_modes(mocked):
    with pytest.raises(ValueError, match="'local', 'mock'"):
        mocked(mode="api")


def test_missing_budgets_are_asked_for(mocked):
    with pytest.raises(ValueError, match="compute_budgets: got none"):
        mocked(compute_budgets=None)


def test_the_model_is_checked_before_data_and_loss(mocked):
    with pytest.raises(ContractError, match="model_cls"):
        flops_fit.find_optimal(3, "width", dataset=3, loss_fn=3, compute_budgets=BUDGETS)


def test_the_data_is_checked_before_the_loss(tiny_lm):
    with pytest.raises(TypeError, match="dataset"):
        flops_fit.find_optimal(tiny_lm, "width", dataset=3, loss_fn=nn.CrossEntropyLoss, compute_budgets=BUDGETS)


def test_another_sweep_in_the_same_folder_is_refused(mocked, tmp_path):
    mocked()
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with pytest.raises(PlanMismatch, match="Choose another folder"):
        mocked(sweep={**GRID, "recipe": {"schedule": "cosine"}})
    assert before == {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}


def test_one_more_budget_in_the_same_folder_keeps_the_runs_that_are_there(mocked, tmp_path):
    first = losses(mocked(compute_budgets=BUDGETS[:4]))
    grown = losses(mocked())
    assert first.items() < grown.items()
    assert len(list((tmp_path / "out" / "plans").iterdir())) == 2


def test_resume_false_refuses_to_mix_with_old_results(mocked):
    mocked()
    with pytest.raises(StoreError, match="resume=False"):
        mocked(resume=False)


def test_a_budget_too_small_for_any_size_is_refused(mocked):
    with pytest.raises(PlanError, match="no model size fits"):
        mocked(compute_budgets=[10.0])


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({}, r"would see its 48 tokens [\d.]+ times \(max_epochs=4\)"),
        ({"max_epochs": None}, "in one step, and the data holds"),
    ],
)
def test_a_data_set_too_small_for_its_budgets_is_refused(tiny_lm, sequence_loss_fn, tmp_path, limits, reason):
    with pytest.raises(PlanError, match=reason):
        flops_fit.find_optimal(
            tiny_lm, "width", None, ChainData(4), sequence_loss_fn, BUDGETS,
            sweep={**GRID, "limits": limits}, output_dir=tmp_path / "out",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_budgets_far_beyond_the_data_are_refused_before_anything_starts(tiny_lm, sequence_loss_fn, tmp_path):
    with pytest.raises(PlanError, match="max_epochs=4"):
        flops_fit.find_optimal(
            tiny_lm, "width", None, ChainData(4096), sequence_loss_fn, [1e20, 3e20], output_dir=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (1e18, "compute_budgets: got 1e\\+18, expected a list of training FLOPs"),
        ("1e18", "compute_budgets: got '1e18', expected a list"),
        (["1e17", "1e18"], "compute_budgets: got '1e17' among them"),
        ([1e17, None], "compute_budgets: got None among them"),
        ([1e17, -1.0], "compute_budgets: got"),
    ],
)
def test_budgets_of_the_wrong_type_are_refused(mocked, budgets, message):
    with pytest.raises(ConfigError, match=message):
        mocked(compute_budgets=budgets)


def test_budgets_may_be_an_array(mocked):
    assert mocked(compute_budgets=np.array(BUDGETS)).plan.compute_budgets == tuple(BUDGETS)


def test_the_representation_of_a_result_is_a_few_lines_and_begins_with_the_verdict(mocked):
    result = mocked()
    assert repr(result).startswith(f"Result({result.laws.trust.headline}")
    assert len(repr(result).splitlines()) <= 4
    assert " ".join(str(result).split()).startswith(result.laws.trust.headline)


def test_progress_is_shown_on_stderr_and_can_be_turned_off(tmp_path, tiny_lm, chain_data, sequence_loss_fn, capsys):
    arguments = (tiny_lm, "width", None, chain_data, sequence_loss_fn, BUDGETS[:2])
    with pytest.raises(FitError):  # Two budgets of one size each.
        flops_fit.find_optimal(*arguments, output_dir=tmp_path / "a", sweep=GRID | {"num_sizes_per_budget": 1})
    shown = capsys.readouterr()
    assert "[2/2] C=2.00e6" in shown.err
    assert shown.out == ""
    with pytest.raises(FitError):
        flops_fit.find_optimal(
            *arguments, output_dir=tmp_path / "b", sweep=GRID | {"num_sizes_per_budget": 1}, progress=False
        )
    assert "[2/2]" not in capsys.readouterr().err


def test_a_model_that_raises_is_recorded_and_the_sweep_goes_on(tmp_path, tiny_lm, chain_data, sequence_loss_fn):
    class Fragile(tiny_lm):
        def forward(self, tokens):
            if self.embed.embedding_dim == 8 and tokens.device.type != "meta" and self.training:
                raise RuntimeError("width 8 is cursed")
            return super().forward(tokens)

    result = flops_fit.find_optimal(
        Fragile, "width", None, chain_data, sequence_loss_fn, BUDGETS, output_dir=tmp_path, sweep=GRID
    )
    bad = [r for r in result.run_results if r.status == "failed"]
    assert bad
    assert {r.experiment.size_param_value for r in bad} == {8}
    assert all("width 8 is cursed" in r.reason for r in bad)
    assert all(r.loss is None for r in bad)


def test_where_every_run_fails_the_error_says_of_what_and_the_records_stay(
    tmp_path, tiny_lm, chain_data, sequence_loss_fn
):
    class Broken(tiny_lm):
        def forward(self, tokens):
            if tokens.device.type != "meta" and self.training:
                raise RuntimeError("the kernel is missing")
            return super().forward(tokens)

    arguments = (Broken, "width", None, chain_data, sequence_loss_fn, BUDGETS)
    with pytest.raises(FitError, match=r"left out: \d+: failed: RuntimeError: the kernel is missing"):
        flops_fit.find_optimal(*arguments, output_dir=tmp_path, sweep=GRID)
    assert list((tmp_path / "ends").iterdir())


def test_predict_table_plots_and_report_agree(mocked, tmp_path):
    result = mocked()
    table = result.chinchilla_table([1e8])
    assert "Compute Budget" in table
    paths = result.plot()
    assert len(paths) >= 3
    assert all(p.stat().st_size > 0 for p in paths)
    assert "<html" in result.report().read_text()
    assert "<table" in result._repr_html_()


def test_every_file_of_a_sweep_is_strict_json(mocked, tmp_path):
    mocked()

    def refuse(text):
        raise AssertionError(text)

    for path in (tmp_path / "out").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)


def test_plan_sweep_uses_six_flops_per_parameter_and_token(tiny_lm):
    plan = flops_fit.plan_sweep(tiny_lm, "width", compute_budgets=[1e8], min_size=4, max_size=64, size_multiple=4)
    assert plan.flops_convention == "6N"
    for e in plan.experiments:
        assert 6 * e.num_params * e.num_tokens == pytest.approx(1e8, rel=6 * e.num_params / 1e8)


def test_arguments_that_are_no_json_and_data_that_augment_resume_as_the_same_work(tmp_path, sequence_loss_fn):
    class Augmented(ChainData):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return torch.where(torch.rand(x.shape) < 0.1, 0, x), y

    def make(width, act):
        return nn.Sequential(nn.Embedding(16, width), Activation(act), nn.Linear(width, 16))

    def plan():
        return flops_fit.find_optimal(
            make, "width", {"act": nn.functional.silu}, Augmented(), sequence_loss_fn, BUDGETS, sweep=GRID, train=False
        )

    first = plan()
    assert first.model_kwargs == {"act": "torch.nn.functional.silu"}
    create_store(tmp_path / "out", first)
    assert create_store(tmp_path / "out", plan()).plan == first


class Activation(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, x):
        return self.act(x)


def test_targets_that_the_loss_ignores_are_not_tokens_and_cost_what_they_cost(tiny_lm):
    tokens = ChainData().tokens
    masked = torch.where(torch.arange(16) < 12, tokens[:, 1:] % 15, 15)

    def plan(ignore_index):
        def loss(outputs, targets):
            return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=ignore_index)

        data = TensorDataset(tokens[:, :-1], masked)
        return flops_fit.find_optimal(tiny_lm, "width", None, data, loss, BUDGETS, sweep=GRID, train=False)

    counted, padded = plan(-100).experiments[0], plan(15).experiments[0]
    assert (counted.tokens_per_sample, padded.tokens_per_sample) == (16, 12)
    assert padded.flops_per_token == pytest.approx(counted.flops_per_token * 16 / 12)
