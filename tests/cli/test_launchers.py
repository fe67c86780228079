"""`flops-fit train --launcher` as a user types it."""

import json
import sys

import pytest
from support import REPO, make_experiment

from flops_fit.records import SweepPlan
from flops_fit.stopping import EXIT_CODES
from flops_fit.store import create_store


@pytest.fixture
def folder(tmp_path):
    """A planned sweep."""
    plan = SweepPlan(
        experiments=(make_experiment(),),
        rejected=(),
        model_cls_name="TinyLM",
        size_param="width",
        compute_budgets=(1e6,),
    )
    create_store(tmp_path / "sweep", plan)
    (tmp_path / "sweep" / "config.yaml").touch()
    return tmp_path / "sweep"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("array", ["--array", "8", "--time", "01:00:00", "--partition", "low", "--gpus", "1", "--retry-failed"]),
        ("multi_node", ["--nodes", "4", "--processes", "8", "--sharded", "--time", "2-00"]),
    ],
)
def test_what_would_be_submitted_is_printed_as_recorded(call, folder, name, options):
    before = sorted(folder.rglob("*"))
    code, out, err = call("train", folder, "--launcher", "slurm", "--dry-run", *options)
    assert (code, err) == (0, "")
    printed = out.replace(str(folder), "/DIR").replace(sys.executable, "/PYTHON")
    assert printed == (REPO / "tests" / "golden" / f"{name}.sbatch.txt").read_text()
    assert sorted(folder.rglob("*")) == before


def test_the_same_is_said_in_json(call, folder):
    _, out, _ = call("train", folder, "--launcher", "slurm", "--dry-run", "--json")
    found = json.loads(out)
    assert found["argv"][0] == "sbatch"
    assert found["script"].startswith("#!/bin/bash\n")


def test_submitting_prints_the_number_of_the_job(call, folder, monkeypatch, tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho '12;cluster'\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    code, out, err = call("train", folder, "--launcher", "slurm")
    assert (code, out) == (0, "12\n")
    assert "submitted array.sbatch as job 12" in err
    assert (folder / "slurm" / "array.sbatch").read_text().startswith("#!/bin/bash\n")


def test_a_sweep_made_from_python_is_not_started_by_name(call, folder):
    (folder / "config.yaml").unlink()
    code, out, err = call("train", folder, "--launcher", "torchrun", "--processes", "2", "--json")
    assert code == 2
    assert json.loads(out)["error"]["type"] == "InputError"
    assert "made from Python" in err


def test_a_process_of_a_launcher_reports_its_exit_code(call, monkeypatch, tmp_path):
    (tmp_path / "codes").mkdir()
    monkeypatch.setenv(EXIT_CODES, str(tmp_path / "codes"))
    assert call("train", tmp_path / "missing")[0] == 2
    assert [p.read_text() for p in (tmp_path / "codes").iterdir()] == ["2"]
