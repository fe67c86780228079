"""The command `flops-fit study run` on a tiny study: its lines, its manifest, its exit codes, and running it again."""

import json
import re
import shutil

import pytest

from flops_fit import studies
from flops_fit.studies import legacy_params, main
from flops_fit.studies.legacy import DEFAULTS, update_legacy_dict

HEADER = {"timestamp", "phase_c_root", "phase_d_root", "artifact_root", "filters", "dry_run", "jobs"}
ENTRY = {
    "job_id", "dose", "view", "gridsize", "train_data_path", "test_data_path", "log_path", "artifact_dir",
    "input_sha256", "result",
}  # fmt: skip


def statuses(manifest):
    return {entry["job_id"]: entry["result"]["status"] for entry in manifest["jobs"]}


def test_training_cli_filters_jobs(study_run, manifest):
    code, out, _ = study_run("--dose", "1000", "--view", "baseline", "--gridsize", "1", "--runner", "stub")
    assert code == 0
    assert out.splitlines()[:5] == [
        "9 total jobs enumerated",
        "Filtered by dose=1000.0: 3 jobs remain",
        "Filtered by view=baseline: 1 jobs remain",
        "Filtered by gridsize=1: 1 jobs remain",
        "[1/1] baseline (dose=1e+03, gridsize=1)",
    ]
    assert out.splitlines()[-1].endswith("A/training_manifest.json")
    assert manifest()["filters"] == {"dose": 1000.0, "view": "baseline", "gridsize": 1}


def test_training_cli_manifest_and_bridging(study_run, manifest, monkeypatch):
    seen = []

    def spy(cfg, config):
        assert cfg == DEFAULTS
        update_legacy_dict(cfg, config)
        seen.append((config.nphotons, config.model.gridsize, cfg["nphotons"], cfg["gridsize"]))

    monkeypatch.setattr(studies, "update_legacy_dict", spy)
    assert study_run("--view", "dense", "--runner", "stub")[0] == 0
    assert seen == [(dose, 2, dose, 2) for dose in (1e3, 1e4, 1e5)]
    assert legacy_params == DEFAULTS
    found = manifest()
    assert set(found) >= HEADER
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", found["timestamp"])
    assert found["dry_run"] is False
    assert all(set(entry) >= ENTRY and len(entry["input_sha256"]) == 64 for entry in found["jobs"])
    assert list(statuses(found).values()) == ["stub_complete"] * 3


def test_a_dry_run_lists_all_jobs_and_calls_nothing(study_run, manifest, monkeypatch, tmp_path):
    monkeypatch.setattr(studies, "update_legacy_dict", lambda *_: pytest.fail("bridged in a dry run"))
    code, out, _ = study_run("--dry-run", "--runner", "tiny_study:always_raises")
    assert code == 0
    assert "[9/9] sparse (dose=1e+05, gridsize=2)" in out
    assert manifest()["dry_run"] is True
    assert set(statuses(manifest()).values()) == {"dry_run"}
    assert [path.name for path in (tmp_path / "A").iterdir()] == ["training_manifest.json"]


@pytest.mark.parametrize(
    "filters", ["--dose 7", "--view baseline --gridsize 2", "--view dens", "--dose 1000 --dose 7"]
)  # fmt: skip
def test_no_match_is_exit_2_with_the_values_there_are_and_the_old_manifest(study_run, tmp_path, filters):
    assert study_run("--dose", "1000", "--runner", "stub")[0] == 0
    before = (tmp_path / "A" / "training_manifest.json").read_bytes()
    code, _, err = study_run(*filters.split(), "--runner", "stub")
    assert code == 2
    assert "dose 1000.0, 10000.0, 100000.0; view baseline, dense, sparse; gridsize 1, 2" in err
    assert (tmp_path / "A" / "training_manifest.json").read_bytes() == before


def test_a_missing_file_of_a_selected_job_is_named_before_anything_runs(capsys, groups, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    gone = tmp_path / "data" / "phase_d" / "dose_1000" / "dense" / "dense_test.npz"
    gone.unlink()
    base = [
        "study=tiny", "--config-dir", groups, "--phase-c-root", tmp_path / "data/phase_c", "--phase-d-root",
        tmp_path / "data/phase_d", "--artifact-root", tmp_path / "A", "--runner", "stub",
    ]  # fmt: skip
    assert main([*base, "--dose", "1000"]) == 2
    err = capsys.readouterr().err
    assert str(gone) in err
    assert "flops-fit study simulate study=tiny --out DIR" in err
    assert not (tmp_path / "A").exists()
    assert main([*base, "--view", "sparse"]) == 0


def test_a_job_that_raises_is_recorded_and_the_others_run(study_run, manifest):
    code, out, err = study_run("--dose", "1000", "--runner", "tiny_study:raises_on_sparse")
    assert code == 3
    by_id = {entry["job_id"]: entry for entry in manifest()["jobs"]}
    assert by_id["dose_1000-sparse-gs2"]["result"] == {"status": "failed", "reason": "RuntimeError: no light"}
    assert by_id["dose_1000-dense-gs2"]["result"]["loss"] == 0.25
    assert by_id["dose_1000-dense-gs2"]["result"]["figure"].endswith("train.log")
    assert "failed: RuntimeError: no light" in out
    assert "1 job failed" in err
    log = by_id["dose_1000-sparse-gs2"]["log_path"]
    with open(log) as file:  # noqa: PTH123
        assert "Traceback" in file.read()


def test_run_again_completed_jobs_are_skipped_and_failed_ones_are_not(study_run, manifest, monkeypatch):
    calls = []
    monkeypatch.setattr("tiny_study.raises_on_sparse", lambda **given: calls.append(given["job"].job_id) or {"loss": 1})
    study_run("--dose", "1000", "--view", "baseline", "--runner", "tiny_study:raises_on_sparse")
    monkeypatch.undo()
    study_run("--dose", "1000", "--view", "sparse", "--runner", "tiny_study:raises_on_sparse")
    monkeypatch.setattr("tiny_study.raises_on_sparse", lambda **given: calls.append(given["job"].job_id) or {"loss": 2})
    code, out, _ = study_run("--dose", "1000", "--runner", "tiny_study:raises_on_sparse")
    assert code == 0
    assert calls == ["dose_1000-baseline-gs1", "dose_1000-dense-gs2", "dose_1000-sparse-gs2"]
    assert "[1/3] baseline (dose=1e+03, gridsize=1): completed before, not run again" in out
    assert [entry["result"]["loss"] for entry in manifest()["jobs"]] == [1, 2, 2]


def test_other_settings_or_another_runner_are_another_input(study_run, manifest):
    hashes = []
    for argv in ([], ["study.seed=1"], ["--runner", "tiny_study:returns_nan"]):
        study_run("--dose", "1000", "--view", "baseline", "--dry-run", *argv)
        hashes.append(manifest()["jobs"][0]["input_sha256"])
    assert len(set(hashes)) == 3


def test_a_stub_is_never_complete_and_is_run_again(study_run, manifest):
    study_run("--dose", "1000", "--runner", "stub")
    assert set(statuses(manifest()).values()) == {"stub_complete"}
    assert "completed" not in study_run("--dose", "1000", "--runner", "stub")[1]
    study_run("--dose", "1000", "--view", "dense", "--runner", "tiny_study:raises_on_sparse")
    assert statuses(manifest())["dose_1000-dense-gs2"] == "completed"


def test_a_loss_that_is_not_finite_is_null_and_failed(study_run, manifest):
    assert study_run("--dose", "1000", "--view", "dense", "--runner", "tiny_study:returns_nan")[0] == 3
    result = manifest()["jobs"][0]["result"]
    assert (result["status"], result["loss"], result["phase_error"]) == ("failed", None, None)


def test_a_tensor_is_a_failure_that_names_its_key(study_run, manifest):
    assert study_run("--dose", "1000", "--view", "dense", "--runner", "tiny_study:returns_a_tensor")[0] == 3
    assert "numbers.loss is torch.Tensor" in manifest()["jobs"][0]["result"]["reason"]


def test_earlier_results_stay_where_a_later_command_does_not_select_them(study_run, manifest):
    study_run("--dose", "1000", "--runner", "tiny_study:raises_on_sparse")
    study_run("--dose", "10000", "--view", "dense", "--dry-run")
    found = statuses(manifest())
    assert found == {
        "dose_1000-baseline-gs1": "completed", "dose_1000-dense-gs2": "completed", "dose_1000-sparse-gs2": "failed",
        "dose_10000-dense-gs2": "dry_run",
    }  # fmt: skip
    study_run("--dry-run", "--dose", "1000", "--view", "dense", "--runner", "tiny_study:raises_on_sparse")
    assert "dose_10000-dense-gs2" not in statuses(manifest())
    assert statuses(manifest())["dose_1000-dense-gs2"] == "completed"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--runner", "trian"], "Did you mean 'train'"),
        (["--runner", "tiny_study:nothing"], "runner: unknown function"),
        (["--runner", "nowhere_at_all:run"], "cannot import 'nowhere_at_all'"),
        (["study.measure=tiny_study:measur"], "study.measure: unknown function"),
        (["study.engine={worker: 2}"], "study.engine.worker"),
        (["--job-index", "9"], "--array=0-8"),
        (["--gridsize", "two"], "--gridsize"),
        (["study=tny"], "Did you mean"),
    ],
)
def test_what_cannot_run_is_exit_2_before_anything_runs(study_run, tmp_path, argv, message):
    code, _, err = study_run(*argv)
    assert code == 2
    assert message in err
    assert not (tmp_path / "A").exists()


def test_a_file_in_place_of_a_folder_is_refused_and_left_alone(study_run, capsys, groups, tmp_path):
    (tmp_path / "A").write_text("mine")
    code, _, err = study_run("--runner", "stub")
    assert code == 2
    assert "--artifact-root" in err
    assert main(["simulate", "study=tiny", "--config-dir", groups, "--out", tmp_path / "A"]) == 2
    assert "--out" in capsys.readouterr().err
    assert (tmp_path / "A").read_text() == "mine"


@pytest.mark.parametrize("missing", ["--phase-c-root", "--phase-d-root", "--artifact-root"])
def test_the_three_roots_are_required(capsys, missing):
    argv = [
        part
        for flag in ("--phase-c-root", "--phase-d-root", "--artifact-root")
        if flag != missing
        for part in (flag, "x")
    ]
    assert main(argv) == 2  # fmt: skip
    assert missing in capsys.readouterr().err


def test_an_index_is_the_position_among_the_jobs_that_filters_leave(study_run, manifest):
    assert study_run("--view", "sparse", "--job-index", "1", "--runner", "stub")[0] == 0
    assert list(statuses(manifest())) == ["dose_10000-sparse-gs2"]


def test_with_json_stdout_is_one_object(study_run):
    code, out, err = study_run("--dose", "1000", "--runner", "tiny_study:raises_on_sparse", "--json")
    assert code == 3
    found = json.loads(out)
    assert found["failed"] == ["dose_1000-sparse-gs2"]
    assert found["manifest"].endswith("training_manifest.json")
    assert "9 total jobs enumerated" in err
    code, out, _ = study_run("--dose", "7", "--json")
    assert json.loads(out)["error"]["exit_code"] == code == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"jobs": []}', "\xff"])
def test_a_damaged_manifest_is_named_and_left_alone(study_run, capsys, tmp_path, text):
    (tmp_path / "A").mkdir()
    path = tmp_path / "A" / "training_manifest.json"
    path.write_text(text, encoding="latin-1")
    for code, err in (
        (study_run("--runner", "stub")[::2]),
        (main(["status", tmp_path / "A"]), capsys.readouterr().err),
    ):
        assert code == 2
        assert str(path) in err
    assert path.read_text(encoding="latin-1") == text


def test_a_damaged_result_is_named_before_anything_runs(study_run, tmp_path):
    study_run("--dose", "1000", "--view", "dense", "--runner", "stub")
    (path,) = (tmp_path / "A").glob("jobs/*/results/*.json")
    path.write_text("{")
    code, _, err = study_run("--runner", "stub")
    assert code == 2
    assert str(path) in err
    assert len(list((tmp_path / "A").glob("jobs/*"))) == 1


def test_status_tells_what_ended_how_and_what_is_pending(study_run, capsys, tmp_path):
    study_run("--dose", "1000", "--runner", "tiny_study:raises_on_sparse")
    study_run("--dose", "10000", "--view", "dense", "--dry-run")
    capsys.readouterr()
    assert main(["status", tmp_path / "A", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"completed": 2, "failed": 1, "stub_complete": 0, "dry_run": 1, "pending": 5}
    assert main(["status", tmp_path / "A"]) == 0
    out = capsys.readouterr().out
    assert "2 completed, 1 failed, 1 dry_run, 5 pending of 9 jobs" in out
    assert re.search(r"dose_1000-sparse-gs2 +failed +RuntimeError: no light", out)


def test_status_of_a_folder_without_a_manifest_is_exit_2(capsys, tmp_path):
    assert main(["status", tmp_path]) == 2
    assert "training_manifest.json: no such file" in capsys.readouterr().err


def test_a_real_training_is_measured_and_its_checkpoint_is_named_by_its_content(study_run, manifest, tmp_path):
    from flops_fit.files import file_hash

    code, _, err = study_run("--dose", "1000", "--view", "dense")
    assert code == 0, err
    result = manifest()["jobs"][0]["result"]
    assert result["status"] == "completed"
    assert 0 < result["loss"] < 1
    assert 0 < result["amplitude_error"] < 1
    assert (result["num_tokens"], result["gridsize_seen"]) == (4096, 2)
    assert file_hash(tmp_path / "A" / result["checkpoint"]) == result["checkpoint_sha256"]
    # Other data train anew beside the old run, which they could not join.
    code, _, err = study_run("--dose", "1000", "--view", "dense", "study.training.num_samples=2048")
    assert code == 0, err
    assert manifest()["jobs"][0]["result"]["num_tokens"] == 2048


def test_empty_files_are_no_data(capsys, groups, tmp_path, manifest):
    from flops_fit.studies import build_training_jobs
    from flops_fit.studies.configuration import load_study

    tiny = load_study(["study=tiny"], config_dir=groups)
    for job in build_training_jobs(tmp_path / "C", tmp_path / "D", tmp_path / "A", study=tiny):
        for path in (job.train_data_path, job.test_data_path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    roots = ["--phase-c-root", tmp_path / "C", "--phase-d-root", tmp_path / "D", "--artifact-root", tmp_path / "A"]
    assert main(["study=tiny", "--config-dir", groups, *roots, "--view", "dense", "--dose", "1000"]) == 3
    assert statuses(manifest()) == {"dose_1000-dense-gs2": "failed"}


def test_simulate_makes_what_run_reads_and_says_how_to_go_on(capsys, groups, tmp_path):
    argv = ["simulate", "study=tiny", "--config-dir", groups, "--out", tmp_path / "data"]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["files"]) == 18
    assert found["phase_c_root"] == str(tmp_path / "data" / "phase_c")
    assert main([*argv, "study.views.dense.files='{dose}_{split}.npz'"]) == 2
    assert "no such file after tiny_study:simulate" in capsys.readouterr().err
    assert main([*argv, "study.data.options={speed: 3}"]) == 2
    assert "tiny_study:simulate raised TypeError" in capsys.readouterr().err


def test_plan_lists_jobs_and_with_data_what_they_cost(capsys, groups, data):
    base = ["plan", "study=tiny", "--config-dir", groups, "--dose", "1000"]
    assert main(base) == 0
    assert re.search(r"dose_1000-dense-gs2 +8 +4,096 +- .*missing", capsys.readouterr().out)
    roots = ["--phase-c-root", data / "phase_c", "--phase-d-root", data / "phase_d"]
    assert main([*base, *roots, "--json"]) == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [job["num_params"] for job in jobs] == [8 * 8 + 8 + 8 + 1] * 3
    assert all(job["flops"] > 0 and job["seconds"] > 0 and job["epochs"] == 0.25 for job in jobs)


def test_the_help_lists_runners_and_presets_and_its_examples_name_real_options(capsys):
    assert main(["run", "--help"]) == 0
    out = capsys.readouterr().out
    for name in ("train", "sweep", "stub", "dose_overlap_quick", "--phase-c-root", "--job-index"):
        assert name in out
