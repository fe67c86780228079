"""The studies of diffraction imaging that come with the package."""

import json
import zipfile

import numpy as np
import pytest

from flops_fit.config import resolve
from flops_fit.studies import main
from flops_fit.studies.condition import engine_settings
from flops_fit.studies.configuration import named_study


@pytest.mark.parametrize("name", ["dose_overlap", "dose_overlap_quick"])
def test_a_study_names_functions_and_settings_that_exist(name):
    study = named_study(name)
    for setting in ("simulate", "task", "measure"):
        assert callable(resolve(getattr(study, setting)))
    engine_settings(study)
    assert len(study.sweep.compute_budgets) >= 5
    assert study.sweep.num_sizes_per_budget >= 4
    assert study.sweep.flops_per_param_per_token == "measured"


@pytest.mark.slow
def test_a_small_imaging_study_is_simulated_trained_and_measured(capsys, tmp_path):
    study = ["study=dose_overlap_quick", "study.data.num_train=64", "study.data.num_test=32", "study.training.size=4"]
    study += ["study.training.num_samples=64", "study.doses=[1e3]"]
    assert main(["simulate", *study, "--out", tmp_path]) == 0
    roots = ["--phase-c-root", tmp_path / "phase_c", "--phase-d-root", tmp_path / "phase_d"]
    run = [*study, *roots, "--artifact-root", tmp_path / "A"]
    assert main(run) == 0, capsys.readouterr().err
    manifest = json.loads((tmp_path / "A" / "training_manifest.json").read_text())
    assert len(manifest["jobs"]) == 3
    for entry in manifest["jobs"]:
        result = entry["result"]
        assert result["status"] == "completed"
        for name in ("loss", "amplitude_error", "phase_error", "poisson_deviance"):
            assert np.isfinite(result[name]), name
        assert (tmp_path / "A" / result["checkpoint"]).is_file()
    # A file that breaks the contract fails its own job when it is read, with the key.
    broken = tmp_path / "phase_d" / "dose_1000" / "dense" / "dense_test.npz"
    with np.load(broken) as file:
        arrays = {key: file[key] for key in file.files if key != "probeGuess"}
    np.savez(broken, **arrays)
    assert zipfile.is_zipfile(broken)
    assert main(run) == 3
    manifest = json.loads((tmp_path / "A" / "training_manifest.json").read_text())
    by_view = {entry["view"]: entry["result"] for entry in manifest["jobs"]}
    assert by_view["dense"]["status"] == "failed"
    assert "probeGuess" in by_view["dense"]["reason"]
    assert by_view["sparse"]["status"] == "completed"
