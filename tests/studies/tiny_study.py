"""A study of seconds: a noisy function of eight numbers in place of images. Its functions are named in its YAML."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from flops_fit.api import plan_task
from flops_fit.data import as_source
from flops_fit.fitting import ChinchillaLaw, simulate_results
from flops_fit.store import create_store
from flops_fit.tasks import make_task

YAML = """
name: tiny
simulate: tiny_study:simulate
task: tiny_study:make_tiny_task
measure: tiny_study:measure
doses: [1.0e3, 1.0e4, 1.0e5]
views:
  baseline: {gridsizes: [1], root: phase_c, files: "dose_{dose}/patched_{split}.npz"}
  dense: {gridsizes: [2], root: phase_d, files: "dose_{dose}/{view}/{view}_{split}.npz"}
  sparse: {gridsizes: [2], root: phase_d, files: "dose_{dose}/{view}/{view}_{split}.npz"}
data: {patch: 8, num_train: 16384, num_test: 512}
training:
  size: 8
  num_samples: 4096
  recipe: {batch_tokens: 32, batch_exponent: 0, learning_rate: 0.01, learning_rate_exponent: 0}
sweep:
  compute_budgets: [1.0e6, 2.0e6, 4.0e6, 8.0e6, 1.6e7]
  num_sizes_per_budget: 4
  min_size: 1
  max_size: 64
  size_multiple: 1
  flops_per_param_per_token: measured
  center_tokens_per_param: 100
  half_width: 3
  limits: {min_tokens_per_param: 1, max_epochs: 4}
  recipe: {batch_tokens: 32, batch_exponent: 0, learning_rate: 0.02, learning_rate_exponent: 0}
"""


class TinyNet(nn.Module):
    """One hidden layer."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, x):
        return self.layers(x)


def simulate(out, *, doses, views, patch, num_train, num_test, seed):
    """A wide network, seen with noise that falls with the dose; with neighbours the target varies less."""
    rng = np.random.default_rng(seed)
    teacher, signs = rng.standard_normal((patch, 32)) / np.sqrt(patch), rng.choice([-1, 1], 32)
    for dose in doses:
        for view in views:
            folder = out / ("phase_c" if view == "baseline" else "phase_d") / f"dose_{dose:.0f}"
            folder = folder if view == "baseline" else folder / view
            folder.mkdir(parents=True, exist_ok=True)
            for split, count in (("train", num_train), ("test", num_test)):
                rng = np.random.default_rng([seed, len(view), round(dose), count])
                x = rng.standard_normal((count, patch)).astype(np.float32)
                y = np.tanh(2 * x @ teacher) @ signs / 4
                y *= 1 if view == "baseline" else 0.8
                y += rng.standard_normal(count) / np.sqrt(dose)
                name = "patched" if view == "baseline" else view
                np.savez(folder / f"{name}_{split}.npz", x=x, y=y.astype(np.float32)[:, None])


def read(path):
    with np.load(path, allow_pickle=False) as file:
        return torch.from_numpy(file["x"]), torch.from_numpy(file["y"])


def make_tiny_task(train_file, test_file, *, gridsize):
    train, test = (as_source(TensorDataset(*read(path))) for path in (train_file, test_file))
    return make_task(TinyNet, "width", train_data=train, eval_data=test, loss_fn=nn.MSELoss(), name="tiny")


def measure(model, test_file, *, gridsize):
    x, y = read(test_file)
    with torch.no_grad():
        error = (model(x) - y).abs().mean()
    return {"amplitude_error": float(error), "gridsize_seen": np.int64(gridsize)}


def always_raises(*, config, job, log_path):
    raise RuntimeError(f"no light at {job.dose:.0f}")


def raises_on_sparse(*, config, job, log_path):
    if job.view == "sparse":
        raise RuntimeError("no light")
    return {"status": "completed", "loss": np.float32(0.25), "figure": log_path}


def returns_nan(*, config, job, log_path):
    return {"loss": float("nan"), "phase_error": np.float64("inf")}


def returns_a_tensor(*, config, job, log_path):
    return {"status": "completed", "numbers": {"loss": torch.zeros(())}}


LAWS = {
    "baseline": ChinchillaLaw(E=1.8, A=6.0, B=20.0, alpha=0.4, beta=0.4),
    "dense": ChinchillaLaw(E=1.8, A=6.0, B=20.0, alpha=0.4, beta=0.4),
    "sparse": ChinchillaLaw(E=1.7, A=6.0, B=20.0, alpha=0.4, beta=0.4),
}
"""Truths of the simulated sweeps: baseline and dense are equal, sparse has 0.1 less of loss."""


def simulated_sweep(*, config, job, log_path):
    """A sweep whose losses follow a known law, with noise by its view; no model is trained."""
    task = make_tiny_task(config.train_data_file, config.test_data_file, gridsize=1)
    plan = plan_task(task, job.study.sweep)
    store = create_store(job.artifact_dir / "sweep", plan, config="fit: {num_bootstraps: 20, max_hidden_budgets: 0}\n")
    for result in simulate_results(plan, LAWS[job.view], 0.003, seed=len(job.view)):
        store.publish_result(result)
    law = {"a": 0.0, "a_interval": [0.0, 0.0], "runs_used": 0, "trust": "no"}  # Until the command has fitted it.
    return {"status": "completed", "law": law, "sweep_dir": store.root.relative_to(job.artifact_root)}
