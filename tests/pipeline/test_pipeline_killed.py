"""Kill -9 in every stage, and a launch of two processes: the same bits at the end as a run that nothing disturbed."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import pytest

from flops_fit.pipeline.stages import STAGES

pytestmark = pytest.mark.slow

ARGUMENTS = (
    "pipeline", "run", "pipeline=quick", "corpus.megabytes=0.3", "pipeline.epochs=2", "pipeline.compute=3e10",
    "sweep.compute_budgets=[3e8,5e8,8e8,1.3e9,2e9]", "sweep.num_sizes_per_budget=3", "sweep.max_size=12",
    "sweep.limits.min_tokens_per_param=0.5", "pipeline.max_size=24", "pipeline.eval_samples=64",
    "pipeline.checkpoint_seconds=0.1", "pipeline.limits.unigram_ratio=2", "pipeline.limits.lexicon=0",
    "pipeline.limits.language=0", "pipeline.limits.distinct_2=0",
)  # fmt: skip


def start(out, *arguments, launcher=()):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "flops_fit", *ARGUMENTS, "--output-dir", str(out), *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip


def finish(process):
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err


def weights(out):
    return hashlib.sha256((out / "model/final_model.safetensors").read_bytes()).hexdigest()


def kill_at(out, sign, times=1):
    """Starts, or goes on, and kills the process when a line of its progress has begun so for so many times."""
    process = start(out, "--resume")
    seen = []
    for line in process.stderr:
        seen.append(line)
        times -= line.startswith(sign)
        if not times:
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL, "".join(seen)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    finish(start(out))
    return out


def test_a_run_killed_in_every_stage_ends_with_the_same_bits(undisturbed, tmp_path):
    out = tmp_path / "out"
    for number, stage in enumerate(STAGES[1:], start=2):
        kill_at(out, f"[{number}/9] {stage.name}\n")
        if stage.name == "sweep":
            kill_at(out, "[7/15]")
        if stage.name == "train":
            kill_at(out, "[7/9] train: step", times=3)
    err = finish(start(out, "--resume"))
    assert weights(out) == weights(undisturbed)
    assert "[5/9] sweep unchanged" in err
    metrics, expected = (json.loads((o / "training_metrics.json").read_text()) for o in (out, undisturbed))
    assert metrics["training"]["history"] == expected["training"]["history"]
    assert metrics["prediction"] == expected["prediction"]


def test_training_goes_on_from_its_checkpoint(undisturbed, tmp_path):
    out = tmp_path / "out"
    kill_at(out, "[7/9] train: step", times=6)
    steps = [json.loads(line)["step"] for line in (out / "checkpoints/history.jsonl").read_text().splitlines()]
    assert list((out / "checkpoints").rglob("step-*"))
    err = finish(start(out, "--resume"))
    # A checkpoint is at most some tenths old; the first ones are not trained again.
    assert f"train: step {steps[0]:,} of" not in err
    assert f"train: step {steps[1]:,} of" not in err
    assert weights(out) == weights(undisturbed)


def test_two_processes_of_a_launcher_sweep_and_train_together(undisturbed, tmp_path):
    out = tmp_path / "out"
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29577")
    err = finish(start(out, launcher=launcher))
    assert err.count("[3/9] tokenizer done") == 1
    metrics, alone = (json.loads((o / "training_metrics.json").read_text()) for o in (out, undisturbed))
    assert metrics["environment"]["processes"] == 2
    assert metrics["fit"]["num_tokens"] == alone["fit"]["num_tokens"]
    # The sum of a step's gradients is taken in another order.
    assert metrics["outcome"]["loss"] == pytest.approx(alone["outcome"]["loss"], rel=1e-3)
