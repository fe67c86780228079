"""The comparison of conditions by their sweeps, on sweeps of known laws, and one real sweep."""

import json

import pytest
from tiny_study import LAWS

from flops_fit.studies import main

SIMULATED = ("--dose", "1000", "--runner", "tiny_study:simulated_sweep")
NAMES = {view: f"dose_1000-{view}-gs{1 if view == 'baseline' else 2}" for view in LAWS}


@pytest.fixture
def compare(capsys, tmp_path):
    def call(*argv):
        capsys.readouterr()
        code = main(["compare", tmp_path / "A", *argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_conditions_of_two_laws_differ_by_what_their_laws_do(study_run, manifest, compare):
    assert study_run(*SIMULATED, "--view", "baseline", "--view", "sparse")[0] == 0
    code, out, _ = compare("--json")
    assert code == 0
    found = json.loads(out)
    assert (found["differ"], found["verdict"]) == (True, "they differ")
    (pair,) = found["differences"]
    assert (pair["first"], pair["second"]) == (NAMES["baseline"], NAMES["sparse"])
    truth = float(LAWS["baseline"].loss_opt(found["compute"]) - LAWS["sparse"].loss_opt(found["compute"]))
    assert pair["loss_interval"][0] <= truth <= pair["loss_interval"][1]
    # The manifest holds the loss of every condition at the compute that all of them reach.
    for entry, condition in zip(manifest()["jobs"], found["conditions"], strict=True):
        law = entry["result"]["law"]
        assert law["common_compute"] == found["compute"]
        assert law["loss_at_common_compute"] == pytest.approx(condition["loss"])
        assert law["loss_interval"][0] <= law["loss_at_common_compute"] <= law["loss_interval"][1]
        assert law["a_interval"][0] <= law["a"] <= law["a_interval"][1]


@pytest.mark.slow
def test_of_three_conditions_only_those_of_another_law_differ(study_run, compare):
    assert study_run(*SIMULATED, "--view", "baseline", "--view", "dense")[0] == 0
    assert compare()[1].splitlines()[-1] == "they do not differ at 90 %"
    assert study_run(*SIMULATED)[0] == 0
    lines = compare()[1].splitlines()
    assert lines[-1] == "they differ"
    assert lines[-2].startswith("Pairs that differ: ")
    assert NAMES["sparse"] in lines[-2]
    assert f"{NAMES['baseline']} and {NAMES['dense']}" not in lines[-2]


def test_one_condition_is_nothing_to_compare(study_run, compare):
    assert study_run(*SIMULATED, "--view", "dense")[0] == 0
    code, _, err = compare()
    assert code == 2
    assert "got 1 completed sweep" in err
    assert "--runner sweep" in err


def test_a_folder_without_a_manifest_is_refused(compare):
    code, _, err = compare()
    assert code == 2
    assert "training_manifest.json" in err


@pytest.mark.slow
def test_a_real_sweep_gives_a_law_and_is_not_run_again(study_run, manifest, tmp_path):
    argv = ("--runner", "sweep", "--dose", "1000", "--view", "dense")
    code, _, err = study_run(*argv)
    assert code == 0, err
    (entry,) = manifest()["jobs"]
    result = entry["result"]
    assert result["law"]["budgets"] == 5
    assert result["runs"] == {"completed": 20}
    assert (tmp_path / "A" / result["sweep_dir"] / "report" / "index.html").is_file()
    code, out, _ = study_run(*argv)
    assert "completed before, not run again" in out
    assert manifest()["jobs"][0]["ended"] == entry["ended"]
