"""The matrix: nine jobs from names alone, each checked when it is made, and what filters leave of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from flops_fit import studies
from flops_fit.errors import ConfigError
from flops_fit.studies import build_training_jobs
from flops_fit.studies.configuration import load_study
from flops_fit.studies.matrix import select_jobs
from flops_fit.studies.settings import dose_text


def test_build_training_jobs_matrix():
    jobs = build_training_jobs("C", "D", "A")
    expected = [
        (dose, view, gridsize)
        for dose in (1e3, 1e4, 1e5)
        for view, gridsize in (("baseline", 1), ("dense", 2), ("sparse", 2))
    ]
    assert [(job.dose, job.view, job.gridsize) for job in jobs] == expected
    assert jobs[0].train_data_path == Path("C/dose_1000/patched_train.npz")
    assert jobs[4].test_data_path == Path("D/dose_10000/dense/dense_test.npz")
    assert len({job.artifact_dir for job in jobs}) == len({job.log_path for job in jobs}) == 9
    assert jobs == build_training_jobs("C", "D", "A")


def test_the_quick_study_has_its_own_doses():
    jobs = build_training_jobs("C", "D", "A", study="dose_overlap_quick")
    assert sorted({job.dose for job in jobs}) == [1e2, 1e3, 1e4]
    assert jobs[0].study.data.patch == 16


def test_listing_jobs_calls_no_bridge_and_makes_nothing(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(studies, "update_legacy_dict", lambda cfg, config: calls.append(config))
    before = dict(studies.legacy_params)
    build_training_jobs(tmp_path / "C", tmp_path / "D", tmp_path / "A")
    assert calls == []
    assert studies.legacy_params == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [({"view": "dens"}, "Did you mean 'dense'"), ({"gridsize": 2}, "expected 1 for the view 'baseline'")],
)
def test_a_job_that_the_study_does_not_have_cannot_be_made(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(build_training_jobs("C", "D", "A")[0], **change)


def test_the_id_of_a_job_follows_from_its_condition():
    job = build_training_jobs("C", "D", "A")[1]
    assert job.job_id == "dose_1000-dense-gs2"
    assert replace(job, dose=2.5).job_id == "dose_2.5-dense-gs2"


def test_an_unknown_study_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'dose_overlap'"):
        build_training_jobs("C", "D", "A", study="dose_overlp")


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, 9),
        ({"dose": [1000.0]}, 3),
        ({"view": ["baseline"]}, 3),
        ({"gridsize": [2]}, 6),
        ({"dose": [1e4], "view": ["dense"], "gridsize": [2]}, 1),
        ({"view": ["dense", "baseline"]}, 6),
    ],
)
def test_filters_leave_the_jobs_that_pass_all_of_them(filters, count):
    assert len(select_jobs(build_training_jobs("C", "D", "A"), filters)) == count


def test_doses_are_written_without_a_point_where_they_are_whole():
    assert [dose_text(dose) for dose in (1000.0, 1e5, 2.5)] == ["1000", "100000", "2.5"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("study.doses=[]", "study.doses"),
        ("study.doses=[10,10]", "each dose once"),
        ("study.doses=[-1]", "positive"),
        ("study.views.dense.files='../{dose}_{split}.npz'", "below the root"),
        ("study.views.dense.files=all.npz", "{dose}"),
        ("study.views.dense.gridsizes=[]", "gridsizes"),
        ("study.views.dense.root=phase_e", "phase_c"),
        ("study.training.num_sample=5", "Did you mean 'num_samples'"),
        ("study.training.size=0", "at least 1"),
        ("study.task=nowhere", "package.module:function"),
        ("stdy.seed=1", "study"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_key(override, message):
    with pytest.raises(ConfigError, match="stud") as caught:
        load_study([override])
    assert message in str(caught.value)
