"""Models and data that nobody chose are trained right: in pieces, on two processes, resumed."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from odd_models import BATCH_NORM, ODD, odd_experiment, odd_task
from support import REPO, Interrupted

from flops_fit.data import as_source
from flops_fit.training import TrainSettings, train_experiment

PLAIN = {"precision": "fp32", "compile": "never"}
# Statistics of a micro-batch are part of these models.
DEPEND_ON_PIECES = (*BATCH_NORM, "buffers of its own")


@pytest.fixture
def train(world, tmp_path):
    def run(name, folder, steps=19, *, last=6, task=None, ema_decay=None, **settings):
        (tmp_path / folder).mkdir(exist_ok=True)
        result = train_experiment(
            task or odd_task(name), odd_experiment(name, steps, last, ema_decay=ema_decay), tmp_path / folder,
            world=world, settings=TrainSettings(**PLAIN | settings),
        )  # fmt: skip
        assert result.status == "completed", result.reason
        return result.loss

    return run


@pytest.mark.parametrize("name", ODD)
def test_it_is_trained_and_the_pieces_of_a_step_do_not_matter(train, name):
    whole = train(name, "whole")
    # Steps of 8 as 3, 3, 2, the last of 6 as 3, 3; float32 sums in another order.
    pieces = train(name, "pieces", micro_batch_samples=3)
    assert pieces == pytest.approx(whole, rel=0.9 if name in DEPEND_ON_PIECES else 2e-5)


@pytest.mark.parametrize("micro_batch", [None, 1, 2])
def test_batch_norm_never_sees_one_sample(train, micro_batch):
    # Steps of 8, then one of a single sample.
    assert train("batch norm 1d", "run", last=1, micro_batch_samples=micro_batch) > 0


@pytest.mark.parametrize("name", ["complex weights", "unused head", "32 experts, top 1", "tied and frozen"])
def test_it_goes_on_from_its_checkpoint(train, tmp_path, name):
    whole = train(name, "whole", ema_decay=0.9)
    broken = replace(odd_task(name), train_data=as_source(Interrupted(100)))
    with pytest.raises(KeyboardInterrupt):
        train(name, "stopped", task=broken, ema_decay=0.9, checkpoint_seconds=0.0)
    assert list((tmp_path / "stopped" / "checkpoints").glob("step-*"))
    assert train(name, "stopped", ema_decay=0.9) == whole


CHILD = """
import json, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/training"]
from odd_models import ODD, odd_experiment, odd_task
from flops_fit.distributed import open_world
from flops_fit.training import TrainSettings, train_experiment

with open_world() as world:
    for name in json.loads(sys.argv[2]):
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        settings = TrainSettings(precision="fp32", compile="never", log_every=1, **json.loads(sys.argv[3]))
        experiment = odd_experiment(name, 50, ema_decay=0.9 if name == "complex weights" else None)
        result = train_experiment(odd_task(name), experiment, folder, world=world, settings=settings)
        if world.is_main:
            print("RESULT", json.dumps([name, result.status, result.loss, result.reason]))
"""


def on_two(tmp_path, names, *, sharded=False, **settings):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=str(REPO / "tests")))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, tmp_path / "two",
         json.dumps(names), json.dumps(settings)],
        capture_output=True, text=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_FSDP": str(sharded).lower()},
    )  # fmt: skip
    found = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return {name: (status, loss) for name, status, loss, _ in found}, done


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_whatever_each_of_them_uses(train, tmp_path):
    names = [name for name in ODD if name not in DEPEND_ON_PIECES]
    results, done = on_two(tmp_path, names)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in names:
        alone = train(name, name, steps=50, ema_decay=0.9 if name == "complex weights" else None, log_every=1)
        assert results[name] == ("completed", pytest.approx(alone, rel=2e-5)), name
        steps = [
            [json.loads(line)["loss"] for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
            for folder in (tmp_path, tmp_path / "two")
        ]
        # Rounding grows from step to step.
        assert steps[1][:10] == pytest.approx(steps[0][:10], rel=1e-5), name


@pytest.mark.slow
def test_statistics_of_each_process_do_not_stop_the_other(tmp_path):
    results, done = on_two(tmp_path, list(DEPEND_ON_PIECES), micro_batch_samples=1)
    assert {status for status, _ in results.values()} == {"completed"}, done.stderr[-3000:]
