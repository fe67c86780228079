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


def test_conditions_of_one_law_do_not_differ_and_another_law_does(study_run, manifest, compare):
    assert study_run(*SIMULATED, "--view", "baseline", "--view", "dense")[0] == 0
    code, out, _ = compare()
    assert code == 0
    assert out.splitlines()[-1] == "they do not differ at 90 %"
    assert study_run(*SIMULATED)[0] == 0
    code, out, _ = compare()
    assert out.splitlines()[-1] == "they differ"
    assert out.splitlines()[-2].startswith("Pairs that differ: ")
    assert f"{NAMES['baseline']} and {NAMES['dense']}" not in out.splitlines()[-2]
    found = json.loads(compare("--json")[1])
    assert found["differ"] is True
    by_pair = {(d["first"], d["second"]): d for d in found["differences"]}
    assert len(by_pair) == 3
    pair = by_pair[NAMES["baseline"], NAMES["sparse"]]
    truth = float(LAWS["baseline"].loss_opt(found["compute"]) - LAWS["sparse"].loss_opt(found["compute"]))
    assert pair["loss_interval"][0] <= truth <= pair["loss_interval"][1]
    assert pair["differ"] is True
    assert by_pair[NAMES["baseline"], NAMES["dense"]]["differ"] is False
    # The manifest holds the loss of every condition at the compute that all of them reach.
    for entry in manifest()["jobs"]:
        law = entry["result"]["law"]
        assert law["common_compute"] == found["compute"]
        assert law["loss_interval"][0] <= law["loss_at_common_compute"] <= law["loss_interval"][1]
        assert law["a_interval"][0] <= law["a"] <= law["a_interval"][1]


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
