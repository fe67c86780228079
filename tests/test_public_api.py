"""The names that users rely on; a change here is a change of the public interface."""

import inspect

import pytest

import flops_fit

NAMES = {
    "find_optimal", "plan_sweep", "run_sweep", "train_one", "load_runs", "fit", "simulate_results", "Result",
    "SweepPlan", "Experiment", "RunTable", "Prediction", "ScalingLaws", "FitOptions", "FlopsFitError", "__version__",
}  # fmt: skip


def test_the_public_names_are_these():
    assert set(flops_fit.__all__) == NAMES
    for name in NAMES:
        assert getattr(flops_fit, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="find_optimum"):
        _ = flops_fit.find_optimum


def test_the_signature_of_find_optimal():
    parameters = inspect.signature(flops_fit.find_optimal).parameters
    assert list(parameters) == [
        "model_cls", "model_size_param", "model_kwargs", "dataset", "loss_fn", "compute_budgets",
        "eval_dataset", "train", "mode", "output_dir", "resume", "sweep", "train_config", "seed",
        "fingerprint", "progress",
    ]  # fmt: skip
    keyword_only = [n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    assert keyword_only[0] == "eval_dataset"
    assert parameters["mode"].default == "local"
    assert parameters["output_dir"].default == "outputs"


def test_the_signature_of_plan_sweep():
    parameters = inspect.signature(flops_fit.plan_sweep).parameters
    defaults = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert defaults == {
        "num_sizes_per_budget": 7, "min_size": 64, "max_size": 8192, "size_multiple": 64,
        "flops_per_param_per_token": 6,
    }  # fmt: skip


def test_the_fields_of_an_experiment_and_a_plan():
    experiment = {"experiment_id", "compute_budget", "size_param_value", "num_params", "num_tokens"}
    assert experiment <= set(flops_fit.Experiment.__dataclass_fields__)
    assert hasattr(flops_fit.Experiment, "tokens_per_param")
    plan = {"experiments", "rejected", "model_cls_name", "size_param", "compute_budgets", "model_kwargs"}
    assert plan <= set(flops_fit.SweepPlan.__dataclass_fields__)
    assert hasattr(flops_fit.SweepPlan, "total_flops")
    assert hasattr(flops_fit.SweepPlan, "num_experiments")
