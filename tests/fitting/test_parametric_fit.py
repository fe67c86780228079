"""Approach 3's optimiser against published fits, scipy, finite differences and random starts."""

import numpy as np
import pytest
from scipy.optimize import minimize
from tables_of_runs import isoflop_table, make_table, read_published

from flops_fit.fitting import ChinchillaLaw, FitOptions
from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.methods.approach3 import fit_chinchilla
from flops_fit.fitting.methods.chinchilla import fit as parametric
from flops_fit.fitting.methods.chinchilla.fit import fit_parametric, make_problem

OBJECTIVES = ("huber_log", "squared_log", "squared")
# Hoffmann et al. 2022, Muennighoff et al. 2023 (alpha = beta), and one with very different exponents.
SURFACES = (
    ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28),
    ChinchillaLaw(E=1.87, A=521.0, B=1488.0, alpha=0.353, beta=0.353),
    ChinchillaLaw(E=0.6, A=1.2e5, B=900.0, alpha=0.684, beta=0.439),
)


def problem_of(table, objective="huber_log", delta=1e-3):
    log_runs = make_log_runs(table)
    return make_problem(log_runs.log_n, log_runs.log_d, log_runs.log_loss, objective, delta)


def objective_at(problem, weights, theta):
    return parametric._evaluate(problem, weights, theta).value


def gradient_at(problem, weights, theta):
    return parametric._evaluate(problem, weights, theta).gradient


def natural(problem, theta):
    return {
        "E": np.exp(theta[:, 0]),
        "A": np.exp(theta[:, 1] + theta[:, 3] * problem.centre[0]),
        "B": np.exp(theta[:, 2] + theta[:, 4] * problem.centre[1]),
        "alpha": theta[:, 3],
        "beta": theta[:, 4],
    }


def test_epochs_240_points_give_their_published_optimum(chinchilla_240):
    # epoch-research/analyzing-chinchilla, cell 18: Huber(1e-3) summed over log loss, 4500 starts.
    problem = problem_of(chinchilla_240)
    found = fit_parametric(problem, np.ones((1, 240)), keep=5, tolerance=1e-13)
    values = natural(problem, found.theta)
    assert values["alpha"][0] == pytest.approx(0.3473, abs=0.0005)
    assert values["beta"][0] == pytest.approx(0.3672, abs=0.0008)
    assert values["E"][0] == pytest.approx(1.8172, abs=0.0005)
    assert values["A"][0] == pytest.approx(477.8, abs=1.5)
    assert values["B"][0] == pytest.approx(2143.0, abs=15.0)
    assert found.objective[0] <= 0.00101827403 * (1 + 1e-6)


def test_the_bootstrap_of_epochs_points_gives_their_95_percent_intervals(chinchilla_240):
    # They draw 4000 times from all 240 runs at once; ends scatter by about .002 between seeds of 1000.
    problem = problem_of(chinchilla_240)
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), size=1000).astype(float)
    found = fit_parametric(problem, weights, keep=3, tolerance=1e-7)
    assert found.converged.mean() > 0.99
    for name, low, high in (("alpha", 0.317, 0.373), ("beta", 0.331, 0.415)):
        ends = np.quantile(natural(problem, found.theta)[name], [0.025, 0.975])
        assert ends == pytest.approx([low, high], abs=0.006)


@pytest.mark.parametrize(("delta", "best_known"), [(1e-3, 0.0019816129), (1e-4, 0.00020751)])
def test_gemstones_objective_is_at_or_below_the_best_known(delta, best_known):
    # Their own files: .0019816129, and .0002076018 at 1e-4, which is not the optimum.
    problem = problem_of(read_published("gemstones.csv", "hot"), delta=delta)
    found = fit_parametric(problem, np.ones((1, len(problem.x))), keep=5, tolerance=1e-13)
    assert found.objective[0] <= best_known * (1 + 1e-7)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("surface", SURFACES)
def test_noise_free_surfaces_are_recovered(surface, objective):
    problem = problem_of(isoflop_table(surface, np.geomspace(1e17, 1e20, 5), 8), objective)
    found = natural(problem, fit_parametric(problem, np.ones((1, 40)), keep=5, tolerance=1e-14).theta)
    for name, values in found.items():
        assert values[0] == pytest.approx(getattr(surface, name), rel=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gradient_is_that_of_the_objective(objective):
    problem = problem_of(isoflop_table(SURFACES[0], np.geomspace(1e17, 1e20, 5), 6, noise=0.01), objective)
    weights = np.random.default_rng(1).uniform(0, 2, (1, 30))
    theta = np.array([[0.3, -0.5, -0.2, 0.4, 0.25]])
    exact = gradient_at(problem, weights, theta)[0]
    for i in range(5):
        shift = np.zeros((1, 5))
        shift[0, i] = 1e-6
        up, down = (objective_at(problem, weights, theta + s * shift)[0] for s in (1, -1))
        # Central differences of a function of size 1 are good to about 1e-16 / 1e-6.
        assert exact[i] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("objective", ["squared_log", "squared"])
def test_the_hessian_is_that_of_the_objective(objective):
    problem = problem_of(isoflop_table(SURFACES[1], np.geomspace(1e17, 1e20, 5), 6, noise=0.01), objective)
    weights = np.ones((1, 30))
    theta = np.array([[0.3, -0.5, -0.2, 0.4, 0.25]])
    exact = parametric._evaluate(problem, weights, theta).hessian[0]
    for i in range(5):
        shift = np.zeros((1, 5))
        shift[0, i] = 1e-6
        up, down = (gradient_at(problem, weights, theta + s * shift)[0] for s in (1, -1))
        assert exact[i] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_random_starts_reach_the_optimum_of_the_grid_search(objective, noise):
    table = isoflop_table(SURFACES[0], np.geomspace(1e18, 3e20, 6), 10, noise=noise)
    problem, rng = problem_of(table, objective), np.random.default_rng(0)
    best = fit_parametric(problem, np.ones((1, 60)), keep=5, tolerance=1e-13)
    alpha, beta = rng.uniform(0.1, 1.2, (2, 200))
    terms = np.log(rng.uniform(0.05, 0.95, (3, 200)) * table.loss.min())
    found = parametric._newton(problem, np.ones((200, 60)), np.stack([*terms, alpha, beta], axis=1), 1e-13, 150)[0]
    # Noise-free objectives end at rounding, where a ratio means nothing.
    reached = found.objective <= best.objective[0] * (1 + 1e-6) + 1e-18
    assert reached.mean() >= 0.99
    assert not np.any(found.objective < best.objective[0] * (1 - 1e-6) - 1e-18)


def test_scipy_finds_nothing_better_on_published_runs(chinchilla_240):
    problem, weights = problem_of(chinchilla_240), np.ones((1, 240))
    best = fit_parametric(problem, weights, keep=5, tolerance=1e-13)
    for start in ([0.5, -0.5, -0.5, 0.3, 0.3], [0.0, 0.2, -1.0, 0.6, 0.2]):
        other = minimize(
            lambda t: 1e3 * objective_at(problem, weights, t[None])[0],
            np.array(start),
            jac=lambda t: 1e3 * gradient_at(problem, weights, t[None])[0],
            method="L-BFGS-B",
        )
        assert best.objective[0] <= other.fun / 1e3 * (1 + 1e-9)


def test_weights_are_multiplicities():
    table = isoflop_table(SURFACES[0], np.geomspace(1e18, 3e20, 5), 6, noise=0.01)
    weights = np.random.default_rng(3).integers(1, 4, 30)
    repeated = make_table(*(np.repeat(c, weights) for c in (table.num_params, table.num_tokens, table.loss)))
    by_weight, by_row = problem_of(table), problem_of(repeated)
    first = natural(by_weight, fit_parametric(by_weight, weights[None].astype(float), keep=5).theta)
    second = natural(by_row, fit_parametric(by_row, np.ones((1, weights.sum())), keep=5).theta)
    for name in first:
        assert first[name][0] == pytest.approx(second[name][0], rel=1e-4)


def test_a_few_bad_runs_hardly_move_the_robust_law():
    # 5 % of runs 1 to 6 % too high: .0110 dex was measured over 60 sweeps at noise .002 (squared loss: .030).
    errors = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        table = isoflop_table(SURFACES[0], np.geomspace(1e17, 1e19, 5), 7, noise=0.002, seed=seed)
        bad = rng.random(35) < 0.05
        loss = table.loss * np.where(bad, 1 + rng.uniform(0.01, 0.06, 35), 1.0)
        log_runs = make_log_runs(make_table(table.num_params, table.num_tokens, loss))
        method = fit_chinchilla("approach3", log_runs, FitOptions(), rng, count=20, windowed=False)
        n, _ = method.optimum(np.array([np.log(1e20)]), 0.9)
        errors.append((n.value[0] - np.log(SURFACES[0].n_opt(1e20))) / np.log(10))
    assert np.sqrt(np.mean(np.square(errors))) <= 0.02
