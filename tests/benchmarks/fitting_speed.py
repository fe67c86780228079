"""Speed and memory of the fitting room against references, on CPU time, in one process with one BLAS thread."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from tables_of_runs import DATA, read_published

from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.methods.chinchilla.fit import fit_parametric, make_problem

DELTA = 1e-3


def epoch_points():
    return read_published("chinchilla_epoch.csv", keep=lambda row: row["excluded_by_source"] != "True")


def own_bootstrap(table, count):
    columns = make_log_runs(table)
    problem = make_problem(columns.log_n, columns.log_d, columns.log_loss, "huber_log", DELTA)
    size = len(columns)
    weights = np.random.default_rng(42).multinomial(size, np.full(size, 1 / size), size=count).astype(float)
    return fit_parametric(problem, weights, keep=3, tolerance=1e-7)


def reference_objective(theta, log_n, log_d, log_loss):
    """Sum of Huber(1e-3) of log loss as Epoch's notebook writes it, with a gradient by hand."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
    model = logsumexp(terms, axis=0)
    residual = log_loss - model
    size = np.abs(residual)
    value = np.where(size <= DELTA, 0.5 * residual**2, DELTA * (size - 0.5 * DELTA)).sum()
    slope = -np.clip(residual, -DELTA, DELTA)
    share = np.exp(terms - model)
    return value, np.array(
        [
            slope @ share[0],
            slope @ share[1],
            slope @ share[2],
            -(slope * share[0]) @ log_n,
            -(slope * share[1]) @ log_d,
        ]
    )


def automatic_objective(theta, log_n, log_d, log_loss):
    """The same, differentiated automatically as in the notebook (there by autograd, here by torch)."""
    import torch  # here alone: the memory that is measured is that of numpy and this package

    free = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    log_n, log_d, log_loss = (torch.from_numpy(c) for c in (log_n, log_d, log_loss))
    terms = torch.stack([free[0] - free[3] * log_n, free[1] - free[4] * log_d, free[2].expand(len(log_n))])
    loss = torch.nn.functional.huber_loss(torch.logsumexp(terms, 0), log_loss, reduction="sum", delta=DELTA)
    loss.backward()
    return loss.item(), free.grad.numpy()


def bfgs_bootstrap(objective, logs, resamples):
    """CPU seconds of 1000 resamples, each by BFGS from one warm start."""
    warm = np.array([np.log(482.01), np.log(2085.43), np.log(1.8172), 0.3478, 0.3658])
    rng = np.random.default_rng(42)
    objective(warm, *logs)
    begun = time.process_time()
    for _ in range(resamples):
        rows = rng.integers(0, 240, 240)
        minimize(objective, warm, args=tuple(c[rows] for c in logs), jac=True, method="BFGS")
    return (time.process_time() - begun) / resamples * 1000


def speed(starts, resamples):
    # First of all: a child's peak counts what its parent held when it was forked.
    command = [sys.executable, str(Path(__file__).with_name("fitting.py")), "memory"]
    subprocess.run(command, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    table = epoch_points()
    logs = [np.log(c) for c in (table.num_params, table.num_tokens, table.loss)]
    own_bootstrap(table, 20)
    begun = time.process_time()
    own = own_bootstrap(table, 1000)
    own_boot = time.process_time() - begun
    begun = time.process_time()
    for _ in range(20):
        columns = make_log_runs(table)
        problem = make_problem(columns.log_n, columns.log_d, columns.log_loss, "huber_log", DELTA)
        point = fit_parametric(problem, np.ones((1, 240)), keep=5, tolerance=1e-13)
    own_point = (time.process_time() - begun) / 20

    their_boot = bfgs_bootstrap(automatic_objective, logs, resamples)
    by_hand_boot = bfgs_bootstrap(reference_objective, logs, resamples)

    grid = (
        np.array(np.meshgrid([0, 5, 10, 15, 20], [0, 5, 10, 15, 20], [-1, -0.5, 0, 0.5, 1], *[[0, 0.5, 1, 1.5, 2]] * 2))
        .reshape(5, -1)
        .T
    )
    chosen = grid[np.random.default_rng(0).permutation(len(grid))[:starts]]
    begun = time.process_time()
    best = min(
        minimize(reference_objective, start, args=tuple(logs), jac=True, method="L-BFGS-B").fun for start in chosen
    )
    their_point = (time.process_time() - begun) / len(chosen) * len(grid)

    print("240 Chinchilla points, Huber 1e-3 on log loss, CPU seconds in this process, one BLAS thread")
    print(f"  1000 bootstraps, own, global search each      {own_boot:9.3f}  converged {own.converged.mean():.3f}")
    for name, seconds in (("automatic gradient", their_boot), ("gradient by hand", by_hand_boot)):
        print(f"  1000 bootstraps, warm BFGS, {name:18s}{seconds:9.1f}  ({resamples} measured)")
        print(f"  ratio                                         {seconds / own_boot:9.0f}  (to reach: 20)")
    print(f"  point fit, own                                {own_point:9.4f}  objective {point.objective[0]:.11f}")
    print(f"  point fit, 3125 L-BFGS starts                 {their_point:9.1f}  objective {best:.11f} ({starts} run)")
    print(f"  ratio                                         {their_point / own_point:9.0f}  (to reach: 1000)")
    print(f"  peak memory of a process with 1000 bootstraps {peak:9.0f}  MB (to stay below: 250)")
    program = "from flops_fit.cli import main; main()"
    command = [sys.executable, "-c", program, "fit", str(DATA / "chinchilla_epoch.csv"), "--json"]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"  flops-fit fit chinchilla_epoch.csv            {wall:9.2f}  s wall, {used:.2f} s CPU, rc {done.returncode}"
    )
