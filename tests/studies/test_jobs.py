"""One job: bridged once, run, restored; and results that strict JSON can hold."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from flops_fit import studies
from flops_fit.errors import ContractError
from flops_fit.studies import ModelConfig, TrainingConfig, build_training_jobs, legacy_params, run_training_job
from flops_fit.studies.legacy import DEFAULTS, to_legacy_dict, update_legacy_dict
from flops_fit.studies.results import plain_result


@pytest.fixture
def jobs(tmp_path):
    return build_training_jobs(tmp_path / "C", tmp_path / "D", tmp_path / "A")


@pytest.fixture
def bridged(monkeypatch):
    """Configurations that the real bridge was called with, and the dictionary's state before each call."""
    calls = []

    def spy(cfg, config):
        calls.append((config, dict(cfg)))
        update_legacy_dict(cfg, config)

    monkeypatch.setattr(studies, "update_legacy_dict", spy)
    return calls


def test_run_training_job_invokes_runner(jobs, bridged):
    seen = []

    def runner(*, config, job, log_path):
        seen.append((config, job, log_path, dict(legacy_params), len(bridged)))
        return {"status": "completed", "loss": 0.5}

    job = jobs[4]
    assert run_training_job(job, runner) == {"status": "completed", "loss": 0.5}
    ((config, given, log_path, params, bridges),) = seen
    assert (given, log_path, bridges) == (job, job.log_path, 1)
    assert config.model.gridsize == params["gridsize"] == 2
    assert config.nphotons == params["nphotons"] == 1e4
    assert params["train_data_file_path"] == str(job.train_data_path)
    assert params["test_data_file_path"] == str(job.test_data_path)
    assert params["output_prefix"] == str(job.artifact_dir)
    assert params["object.big"] is DEFAULTS["object.big"]
    assert legacy_params == DEFAULTS


def test_run_training_job_dry_run(jobs, bridged, tmp_path):
    def runner(**_):
        raise AssertionError("called in a dry run")

    assert run_training_job(jobs[0], runner, dry_run=True)["status"] == "dry_run"
    assert bridged == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_one_job_is_seen_by_the_next(jobs, bridged):
    def runner(*, config, job, log_path):
        legacy_params["left_over"] = job.job_id
        legacy_params["gridsize"] = 99
        return {}

    run_training_job(jobs[0], runner)
    run_training_job(jobs[1], runner)
    assert [before for _, before in bridged] == [DEFAULTS, DEFAULTS]
    assert legacy_params == DEFAULTS


@pytest.mark.parametrize("raised", [RuntimeError("no light"), KeyboardInterrupt()])
def test_the_defaults_come_back_where_a_runner_raises(jobs, raised):
    def runner(**_):
        legacy_params["N"] = None
        raise raised

    with pytest.raises(type(raised)):
        run_training_job(jobs[0], runner)
    assert legacy_params == DEFAULTS


def test_the_defaults_come_back_where_the_bridge_raises(jobs, monkeypatch):
    def broken(cfg, config):
        cfg["N"] = -1
        raise ValueError("no such key")

    monkeypatch.setattr(studies, "update_legacy_dict", broken)
    with pytest.raises(ValueError, match="no such key"):
        run_training_job(jobs[0], lambda **_: {})
    assert legacy_params == DEFAULTS


def test_none_leaves_no_value_of_an_earlier_configuration():
    cfg = {}
    update_legacy_dict(cfg, TrainingConfig(model=ModelConfig(N=16), test_data_file=Path("a.npz"), nphotons=1e3))
    update_legacy_dict(cfg, TrainingConfig())
    assert cfg == DEFAULTS


def test_the_key_map_is_pure_and_renames_what_the_legacy_trainer_names_otherwise():
    before = dict(legacy_params)
    config = TrainingConfig(model=ModelConfig(object_big=False), output_dir=Path("out"))
    legacy = to_legacy_dict(config)
    assert set(legacy) == set(DEFAULTS)
    assert (legacy["object.big"], legacy["output_prefix"]) == (False, "out")
    assert legacy_params == before


def test_a_result_becomes_plain_values():
    result = plain_result(
        {"path": Path("a/b"), "n": np.int64(3), "x": np.float32(0.5), "ok": np.bool_(True), "l": (1,)}
    )
    assert result == {"status": "completed", "path": "a/b", "n": 3, "x": 0.5, "ok": True, "l": [1]}
    json.dumps(result, allow_nan=False)


def test_a_loss_that_is_no_number_is_a_failure_with_its_reason():
    result = plain_result({"loss": float("nan"), "inner": [np.float64("inf")]})
    assert (result["status"], result["loss"], result["inner"]) == ("failed", None, [None])
    assert "not a finite number" in result["reason"]
    assert result["not_finite"] == ["inner[0]", "loss"]


def test_another_number_that_is_none_is_null_and_named():
    result = plain_result({"loss": 1.0, "phase_error": float("nan")})
    assert (result["status"], result["phase_error"], result["not_finite"]) == ("completed", None, ["phase_error"])


@pytest.mark.parametrize("value", [torch.zeros(()), torch.zeros(2), np.zeros(2), np.zeros(()), object(), {1, 2}, 1j])
def test_what_json_cannot_hold_is_refused_by_its_key(value):
    with pytest.raises(ContractError, match=r"numbers\.loss is "):
        plain_result({"numbers": {"loss": value}})


@pytest.mark.parametrize("returned", [3, ["completed"], {"status": "complete"}])
def test_a_result_of_another_kind_or_status_is_refused(returned):
    with pytest.raises(ContractError):
        plain_result(returned)
