"""The extended law: derivatives, optimum, limits, and what it says of runs it never saw."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal
from tables_of_runs import DATA, isoflop_table, make_table, read_published
from worlds import adaptive_sweep, draw_world

from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.inputs.condense import condense
from flops_fit.fitting.inputs.log_runs import make_log_runs
from flops_fit.fitting.methods.extended.form import NUM_PLAIN, Form
from flops_fit.fitting.methods.extended.law import fit_extended_law, weigh_priors
from flops_fit.fitting.methods.extended.prior import log_evidence
from flops_fit.fitting.methods.extended.walk import LENGTH, make_walk

HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
X, Y = np.linspace(-3.2, 4.1, 9), np.linspace(4.9, -4.3, 9)


@pytest.fixture(scope="module")
def form():
    return Form(walk_n=make_walk(X, outside=3), walk_d=make_walk(Y, outside=3), tau=np.array([0.2]))


@pytest.fixture(scope="module")
def row(form):
    plain = [0.4, -0.3, -0.5, -1.1, -1.2, -0.2, 0.02]
    walks = np.random.default_rng(0).standard_normal(form.num_parameters - NUM_PLAIN)
    return np.concatenate([plain, walks])[None]


def differences(function, row, step=1e-5):
    """Derivatives of a function of the parameters, last axis the parameters."""
    shifts = step * np.eye(row.shape[1])
    return np.stack([(function(row + s) - function(row - s)) / (2 * step) for s in shifts], axis=-1)


def test_the_jacobian_is_that_of_the_law(form, row):
    basis = form.basis(X, Y)
    exact = form.log_loss(row, basis)[1]
    assert exact == pytest.approx(differences(lambda r: form.log_loss(r, basis)[0], row), abs=1e-8)


def test_the_gradient_of_the_balance_is_that_of_the_balance(form, row):
    exact = form.balance_gradient(row, X, Y)
    assert exact == pytest.approx(differences(lambda r: form.balance(r, X, Y, np.full(9, 0.9)), row), abs=1e-7)


def test_the_balance_has_the_sign_of_the_slope_along_a_budget(form, row):
    step, cost = 1e-6, 0.9
    up, down = (form.log_loss(row, form.basis(X + s * step, Y - cost * s * step))[0] for s in (1, -1))
    assert np.array_equal(np.sign(form.balance(row, X, Y, np.full(9, cost))), np.sign(down - up))


def test_a_walk_integrates_its_own_hats():
    walk = make_walk(np.array([-1.3, 2.6]), outside=2)
    weights = np.random.default_rng(1).standard_normal(len(walk.knots))
    for x in (-6.5, -1.25, 0.4, 3.75, 9.5):
        exact = quad(lambda t: float(walk.at(np.array(t)) @ weights), 0, x, points=list(walk.knots), limit=200)[0]
        assert float(walk.integral(np.array(x))[0] @ weights) == pytest.approx(exact, abs=1e-7)


def test_departures_along_a_walk_have_unit_variance_and_fade():
    walk = make_walk(np.array([-1.3, 2.6]), outside=4)
    covariance = walk.root @ walk.root.T
    assert covariance == pytest.approx(np.exp(-np.abs(walk.knots[:, None] - walk.knots) / LENGTH), abs=1e-9)


def test_the_optimum_is_the_least_loss_on_a_grid():
    log_runs = make_log_runs(isoflop_table(HOFFMANN, np.geomspace(1e18, 3e20, 5), 7, noise=0.005))
    options = FitOptions(exponent_drift_sd=0.2, interaction_prior_sd=0.2, short_run_prior_sd=0.01)
    method = fit_extended_law(log_runs, options)
    log_c = np.log(1e22)
    fine = np.linspace(20, 26, 6_001)
    loss = method.log_loss_at(fine, log_c - np.log(6) - fine, 0.9).value
    found = method.weighed.optimum(log_runs.flops, np.array([log_c]))[0, 0]
    # The valley is flat to second order, so a grid's argmin is known to the square root of rounding.
    assert found == pytest.approx(fine[np.argmin(loss)], abs=1e-3)


def test_knots_outside_the_runs_move_no_answer_inside(monkeypatch):
    log_runs = make_log_runs(isoflop_table(HOFFMANN, np.geomspace(1e18, 3e20, 5), 7, noise=0.005))
    many = fit_extended_law(log_runs, FitOptions())
    monkeypatch.setattr("flops_fit.fitting.methods.extended.law.OUTSIDE", 4)
    few = fit_extended_law(log_runs, FitOptions())
    log_c = np.log([3e20])
    for one, other in zip(many.optimum(log_c, 0.9), few.optimum(log_c, 0.9), strict=True):
        for end in ("value", "low", "high"):
            assert getattr(one, end) == pytest.approx(getattr(other, end), abs=1e-6)


def test_far_out_the_exponent_returns_to_the_average_of_the_sweep():
    rng = np.random.default_rng(3)
    log_runs = make_log_runs(adaptive_sweep(draw_world("curved", rng), 0.002, rng))
    weighed = weigh_priors(log_runs, FitOptions(exponent_drift_sd=0.25))
    form, row = weighed.form, weighed.fits.rows[:1]
    far = form.walk_d.knots[-1] * np.ones(1)
    middle = NUM_PLAIN + form.walk_n.root.shape[1]
    departure = float((form.walk_d.at(far) @ form.walk_d.root @ row[0, middle:])[0])
    inside = form.walk_d.at(log_runs.log_d - weighed.centre[1]) @ form.walk_d.root @ row[0, middle:]
    assert abs(departure) < 0.2 * np.abs(inside).max()


def simulated_columns(world, noise, seed):
    rng = np.random.default_rng(seed)
    return make_log_runs(adaptive_sweep(draw_world(world, rng), noise, rng))


def test_the_noise_level_is_found_without_bias():
    noise = 0.005
    found = [weigh_priors(simulated_columns("exact", noise, seed), FitOptions()) for seed in range(40)]
    variance = np.mean([w.average(w.fits.sigma**2) for w in found])
    # 40 sweeps with 30 degrees of freedom each: the mean variance is known to 4 %.
    assert np.sqrt(variance) == pytest.approx(noise, rel=0.06)


def test_the_evidence_of_a_linear_model_is_its_marginal_density():
    rng = np.random.default_rng(0)
    # The first three parameters have no prior in the law, so they carry no information here.
    jacobian = np.concatenate([np.zeros((12, 3)), rng.standard_normal((12, 3))], axis=1)
    sigma, sds = 0.3, np.array([[1.0, 1.0, 1.0, 0.5, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0, 0.1, 0.3]])
    seen = rng.standard_normal(12)
    prior = np.stack([np.diag(sd**-2) for sd in sds])
    information = jacobian.T @ jacobian
    mode = np.linalg.solve(information + sigma**2 * prior, jacobian.T @ seen)
    misfit = ((seen - mode @ jacobian.T) ** 2).sum(1)
    two = np.full(2, 1.0)
    found = log_evidence(misfit, 12, sigma * two, mode, np.stack([information] * 2), prior)
    exact = [
        multivariate_normal(cov=sigma**2 * np.eye(12) + jacobian @ np.diag(sd**2) @ jacobian.T).logpdf(seen)
        for sd in sds
    ]
    assert found[1] - found[0] == pytest.approx(exact[1] - exact[0], rel=1e-9)


@pytest.mark.parametrize(("world", "bends"), [("exact", False), ("break_d", True)])
def test_how_far_exponents_drift_is_learned_from_the_runs(world, bends):
    # Median over sweeps of the probability of the wide drift; before any run was seen it is one half.
    after = []
    for seed in range(6):
        weighed = weigh_priors(simulated_columns(world, 0.002, seed), FitOptions())
        after.append(weighed.share @ (weighed.form.tau > 0.1))
    assert (np.median(after) > 0.5) == bends


def test_a_slope_prior_pulls_the_exponents_together():
    log_runs = make_log_runs(isoflop_table(HOFFMANN, np.geomspace(1e18, 1e19, 4), 5, noise=0.02))
    free, held = (fit_extended_law(log_runs, FitOptions(slope_prior_sd=sd)).law for sd in (None, 0.01))
    gap = [abs(np.log(law.parameters["alpha"].value / law.parameters["beta"].value)) for law in (free, held)]
    assert gap[1] < gap[0]
    assert gap[1] < 0.02


def test_interval_and_parts_fit_together():
    laws = fit(isoflop_table(HOFFMANN, np.geomspace(1e18, 3e20, 6), 7, noise=0.005))
    estimate = laws.predict(1e22, law="extended").num_params_estimate
    for part in (estimate.statistical_interval, estimate.form_interval):
        assert estimate.interval[0] <= part[0] < estimate.value < part[1] <= estimate.interval[1]


@pytest.fixture(scope="module")
def ladder():
    return fit(read_published("olmo_ladder.csv", "c4_en/avg5", keep=lambda row: row["split"] == "fit"))


def test_the_default_covers_the_13b_run_that_the_plain_law_misses(ladder):
    with (DATA / "olmo_ladder.csv").open() as lines:
        rows = [r for r in csv.DictReader(lines) if r["condition"] == "c4_en/avg5" and r["run"].startswith("13B")]
    n, d, measured = (float(rows[0][k]) for k in ("N", "D", "loss"))
    # allenai/OLMo-ladder step 1 predicts 2.34439, 3.83 % too low.
    plain, _, _ = ladder.loss_at(n, d, law="approach3")
    assert plain[0] == pytest.approx(2.3444, abs=0.002)
    _, low, high = ladder.loss_at(n, d)
    assert measured == pytest.approx(2.4379, abs=1e-4)
    assert low[0] < measured < high[0]


def test_a_ladder_has_no_curves_and_says_so(ladder):
    assert "no_isoflop_curves" in {f.code for f in ladder.findings}
    assert all(row.log_n_opt_error is None for row in ladder.backtest)


def test_far_runs_that_follow_another_law_stay_out():
    table = isoflop_table(HOFFMANN, np.geomspace(1e18, 3e20, 6), 11, reach=30, noise=0.002)
    excess = np.maximum(np.log(20 / (table.num_tokens / table.num_params)) - 2.0, 0.0)
    bent = make_table(
        table.num_params,
        table.num_tokens,
        table.loss * (1 + 0.08 * excess),
        compute=table.compute,
        compute_budget=table.compute_budget,
    )
    same, other = (fit_extended_law(make_log_runs(t), FitOptions()) for t in (table, bent))
    assert len(same.log_runs) == len(table)
    assert len(other.log_runs) < len(bent)
    truth = np.log(HOFFMANN.n_opt(3e21))
    assert other.optimum(np.array([np.log(3e21)]), 0.9)[0].value[0] == pytest.approx(truth, abs=0.15)


def test_noisy_runs_count_for_less():
    rng = np.random.default_rng(2)
    table = isoflop_table(HOFFMANN, np.geomspace(1e18, 3e20, 8), 7, noise=0.0)
    sd = np.where(table.compute_budget < 1e19, 0.02, 0.002)
    errors = []
    for _ in range(12):
        noisy = replace(table, loss=table.loss * np.exp(sd * rng.standard_normal(len(sd))))
        found = [
            fit_extended_law(make_log_runs(t), FitOptions()).optimum(np.log([3e21]), 0.9)[0].value[0]
            for t in (noisy, replace(noisy, loss_std_error=sd * noisy.loss))
        ]
        errors.append(np.abs(np.array(found) - np.log(HOFFMANN.n_opt(3e21))))
    plain, weighted = np.sqrt(np.mean(np.square(errors), axis=0))
    assert weighted < plain


def test_a_condensed_row_is_a_mean_of_its_runs_and_one_residual():
    table = isoflop_table(HOFFMANN, np.geomspace(1e18, 1e20, 20), 400, noise=0.01)
    log_runs = condense(make_log_runs(table))
    assert len(log_runs) < 0.5 * len(table)
    method = fit_extended_law(log_runs, FitOptions())
    # About 300 cells: the sd of one run is known to 4 %.
    assert method.weighed.average(method.weighed.fits.sigma) == pytest.approx(0.01, rel=0.12)
    spread, _ = method.optimum(np.log([1e22]), 0.9)
    truth = np.log(HOFFMANN.n_opt(1e22))
    assert spread.low[0] < truth < spread.high[0]
    assert spread.high[0] - spread.low[0] < np.log(2.0)
