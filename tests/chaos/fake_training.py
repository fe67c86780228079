"""Fake training: a hash chain of some milliseconds a step, with checkpoints, whose end is known without running it."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from flops_fit.claims import Hold, Superseded
from flops_fit.files import publish_folder
from flops_fit.records import Experiment, Recipe, RunResult, SweepPlan

RECIPE = Recipe(batch_tokens=16, learning_rate=0.01, warmup_tokens=16)
KEPT = 2


def make_plan(runs: int, steps: int) -> SweepPlan:
    """Plans runs of two lengths of each size, so that every other run is of another one's trunk."""
    experiments = tuple(
        Experiment(
            experiment_id=f"run-{size:03d}-{length}", compute_budget=1e6 * (1 + length), size_param_value=size,
            num_params=100 + size, num_params_non_embedding=100, num_tokens=16 * steps * (1 + length),
            flops_per_token=600.0, measured_flops_per_token=None, tokens_per_sample=16, recipe=RECIPE,
        )
        for size in range(-(-runs // 2))
        for length in (0, 1)
    )[:runs]  # fmt: skip
    return SweepPlan(
        experiments=experiments, rejected=(), model_cls_name="Chain", size_param="size",
        compute_budgets=tuple(sorted({e.compute_budget for e in experiments})), task_fingerprint="chain",
    )  # fmt: skip


def next_state(state: str, run: Experiment, step: int) -> str:
    """Returns the state after a step."""
    return hashlib.sha256(f"{state} {run.experiment_id} {step}".encode()).hexdigest()


def loss_of(state: str) -> float:
    """Returns the loss that a state means."""
    return 1 + int(state[:12], 16) / 2**48


def true_loss(run: Experiment) -> float:
    """Returns the loss of an uninterrupted run."""
    state = ""
    for step in range(run.num_steps):
        state = next_state(state, run, step)
    return loss_of(state)


def train(
    run: Experiment,
    run_dir: Path,
    hold: Hold,
    *,
    checkpoint_steps: int,
    step_seconds: float,
    on_step: Callable[[int], None],
    environment: dict[str, object],
) -> RunResult:
    """Trains a run from its newest intact checkpoint, as `flops_fit.training` does.

    Raises:
        Superseded: If another worker has taken over.
        StoreError: If the disk refuses.
    """
    folder = run_dir / "checkpoints"
    step, state = load_newest(folder)
    hold.tick(step)
    while step < run.num_steps:
        if hold.must_stop:
            raise Superseded("another worker has taken over this run")
        time.sleep(step_seconds)
        state = next_state(state, run, step)
        step += 1
        hold.tick(step)
        on_step(step)
        if step % checkpoint_steps == 0 and step < run.num_steps:
            hold.look()
            if hold.is_superseded:
                raise Superseded("another worker has taken over this run")
            with hold.unless_superseded():
                save(folder, step, state)
    return RunResult(
        experiment=run, status="completed", loss=loss_of(state), loss_std_error=0.01, tokens_seen=run.num_tokens,
        flops_spent=run.flops_per_token * run.num_tokens, wall_seconds=0.0, steps=step, environment=environment,
    )  # fmt: skip


def save(folder: Path, step: int, state: str) -> None:
    """Saves a checkpoint as `training.checkpoints` does, then the older ones go."""

    def fill(aside: Path) -> None:
        (aside / "state.json").write_text(json.dumps({"step": step, "state": state}))
        (aside / "manifest.json").write_text(json.dumps(_hash(aside / "state.json")))

    final = folder / f"step-{step:08d}"
    if not final.exists():
        publish_folder(final, fill)
        for old in sorted(folder.glob("step-*"))[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def load_newest(folder: Path) -> tuple[int, str]:
    """Loads the newest checkpoint that agrees with its manifest."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            if json.loads((path / "manifest.json").read_text()) == _hash(path / "state.json"):
                values = json.loads((path / "state.json").read_text())
                return values["step"], values["state"]
        except (FileNotFoundError, ValueError):
            continue
    return 0, ""


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
