"""One simulated sweep, fitted and held against its truth: the cell of every coverage study."""

import numpy as np
from worlds import adaptive_sweep, draw_world

from flops_fit.fitting import FitOptions, fit
from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.methods.chinchilla.fit import fit_parametric, make_problem

TARGETS = (10.0, 100.0, 1000.0)
"""Times the largest budget."""


def coverage_of_one(name, noise, seed):
    rng = np.random.default_rng([seed, 7])
    world = draw_world(name, rng)
    table = adaptive_sweep(world, noise, rng)
    laws = fit(table, options=FitOptions(num_bootstraps=60))
    compute = np.array(TARGETS) * table.compute_budget.max()
    truth, loss = world.n_opt(compute), world.loss_opt(compute)
    value, low, high = laws.n_opt_band(compute)
    _, loss_low, loss_high = laws.loss_band(compute)
    return {
        "error": np.log(value / truth),
        "n": (low <= truth) & (truth <= high),
        "loss": (loss_low <= loss) & (loss <= loss_high),
        "width": np.log(high / low),
        "laplace": laplace_width(table, compute),
    }


def laplace_width(table, compute):
    """Width of Approach 3's z interval of ln N_opt: least squares on log loss, sigma by maximum likelihood."""
    log_runs = make_log_runs(table)
    problem = make_problem(log_runs.log_n, log_runs.log_d, log_runs.log_loss, "squared_log", 1.0)
    theta = fit_parametric(problem, np.ones((1, len(log_runs))), keep=5).theta[0]

    def log_loss(t):
        return np.logaddexp(t[0], np.logaddexp(t[1] - t[3] * problem.x, t[2] - t[4] * problem.y))

    def log_n(t):
        shift = np.log(t[3] / t[4]) + t[1] - t[2] + t[3] * problem.centre[0]
        return (shift + t[4] * (np.log(compute / 6) - problem.centre[1])) / (t[3] + t[4])

    steps = 1e-6 * np.eye(5)
    jacobian = np.stack([(log_loss(theta + s) - log_loss(theta - s)) / 2e-6 for s in steps], axis=1)
    gradient = np.stack([(log_n(theta + s) - log_n(theta - s)) / 2e-6 for s in steps], axis=1)
    variance = np.mean((problem.log_loss - log_loss(theta)) ** 2)
    covariance = variance * np.linalg.pinv(jacobian.T @ jacobian)
    return 2 * 1.645 * np.sqrt(np.einsum("mi,ij,mj->m", gradient, covariance, gradient))
