"""The manifest as a view of facts: many processes write one, and none is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPO

WRITER = """
import sys
from flops_fit.studies import build_training_jobs
from flops_fit.studies.manifest import Header, entry_of, publish_entry, write_manifest
from flops_fit.studies.settings import DataSettings, StudySpec, TrainingSettings, View
view = View(gridsizes=(1,), root="phase_c", files="{dose}_{split}.npz")
study = StudySpec(name="s", simulate="a:b", task="a:b", measure="a:b", doses=(1, 2, 3, 4, 5, 6), views={"one": view},
                  data=DataSettings(patch=8, num_train=8, num_test=8), training=TrainingSettings(size=1, num_samples=1))
root, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
jobs = build_training_jobs("C", "D", root, study=study)
header = Header(study="s", study_jobs=tuple(j.job_id for j in jobs), phase_c_root="C", phase_d_root="D",
                artifact_root=root, filters={}, dry_run=False, runner="stub")
no_time = {"seconds": 0, "cpu_seconds": 0}
assert "torch" not in sys.modules
for attempt in range(count):
    for job in jobs[number::3]:
        result = {"status": "completed", "loss": attempt}
        publish_entry(job, entry_of(job, f"{attempt:064x}", result, "stub", **no_time))
        write_manifest(header)
"""


def test_processes_that_write_one_manifest_at_the_same_time_lose_nothing(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(number), "20"]) for number in range(3)]
    assert [writer.wait(timeout=100) for writer in writers] == [0, 0, 0]
    manifest = json.loads((tmp_path / "training_manifest.json").read_text())
    assert len(manifest["jobs"]) == 6
    assert {entry["result"]["loss"] for entry in manifest["jobs"]} == {19}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_tasks_of_a_job_array_share_one_manifest(groups, data, tmp_path):
    script = REPO / "launch" / "slurm" / "study_array.sbatch"
    command = ["bash", str(script), str(data / "phase_c"), str(data / "phase_d"), str(tmp_path / "A"), "study=tiny"]
    command += ["--config-dir", str(groups), "--runner", "stub"]
    environment = {
        **os.environ, "FLOPS_FIT": str(Path(sys.executable).with_name("flops-fit")), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parent),
    }  # fmt: skip
    tasks = [
        subprocess.Popen(command, env={**environment, "SLURM_ARRAY_TASK_ID": str(i)}, stdout=subprocess.DEVNULL)
        for i in range(4)
    ]
    assert [task.wait(timeout=300) for task in tasks] == [0] * 4
    manifest = json.loads((tmp_path / "A" / "training_manifest.json").read_text())
    assert [entry["result"]["status"] for entry in manifest["jobs"]] == ["stub_complete"] * 4


def test_the_array_script_says_how_it_is_used():
    done = subprocess.run(
        ["bash", str(REPO / "launch/slurm/study_array.sbatch"), "C"], capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 2
    assert "ARTIFACT_ROOT" in done.stderr
