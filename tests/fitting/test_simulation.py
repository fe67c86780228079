"""The simulated worlds, and runs that are simulated instead of trained."""

import numpy as np
import pytest
from sweep_designs import DESIGNS, LADDER, SQUARE, draw_sweep, effective_tokens, size_cells
from worlds import ALL_WORLDS, BREAK_COMPUTE, WORLDS, adaptive_sweep, draw_world

from flops_fit.fitting import ChinchillaLaw, fit, mock_law, simulate_results
from flops_fit.fitting.laws import ChinchillaLaw as Law
from flops_fit.records import Experiment, Recipe, SweepPlan, content_id


def plan_of(budgets, sizes):
    experiments = tuple(
        Experiment(
            experiment_id=content_id(budget=float(c), size=int(n)),
            compute_budget=float(c),
            size_param_value=int(n),
            num_params=int(n),
            num_params_non_embedding=int(n),
            num_tokens=int(c / (6 * n)),
            flops_per_token=6.0 * n,
            measured_flops_per_token=None,
            tokens_per_sample=1,
            recipe=Recipe(batch_tokens=1, learning_rate=1e-3, warmup_tokens=0),
        )
        for c in budgets
        for n in sizes
    )
    return SweepPlan(
        experiments=experiments,
        rejected=(),
        model_cls_name="M",
        size_param="n",
        compute_budgets=tuple(map(float, budgets)),
    )


TINY = plan_of(np.geomspace(1e9, 1e12, 5), np.geomspace(2e3, 2e5, 7))


@pytest.mark.parametrize("plan", [TINY, plan_of(np.geomspace(1e17, 1e21, 5), np.geomspace(1e6, 1e10, 9))])
def test_mock_losses_are_within_what_a_model_shows(plan):
    losses = [r.loss for r in simulate_results(plan, mock_law(plan), 0.003, seed=0)]
    assert min(losses) >= 1.5
    assert max(losses) <= 15
    assert max(losses) > min(losses) + 0.3


def test_the_mock_optimum_of_the_middle_budget_is_inside_the_grid():
    best = mock_law(TINY).n_opt(TINY.compute_budgets[2])
    assert 2e3 < best < 2e5


def test_a_larger_plan_changes_no_earlier_result():
    small = TINY.experiments[:7]
    law = mock_law(TINY)
    part = simulate_results(
        SweepPlan(experiments=small, rejected=(), model_cls_name="M", size_param="n", compute_budgets=(1e9,)),
        law,
        0.01,
        seed=3,
    )
    assert [r.loss for r in part] == [r.loss for r in simulate_results(TINY, law, 0.01, seed=3)[:7]]
    assert [r.loss for r in part] != [r.loss for r in simulate_results(TINY, law, 0.01, seed=4)[:7]]


@pytest.mark.parametrize("name", ALL_WORLDS)
def test_a_worlds_optimum_is_the_least_loss(name):
    world = draw_world(name, np.random.default_rng(5))
    compute = np.array([1e18, 1e20, 1e22])
    for factor in (0.98, 1.02):
        n = world.n_opt(compute) * factor
        assert np.all(world.loss(n, world.num_tokens(compute, n)) >= world.loss_opt(compute))


def test_the_exact_worlds_optimum_is_the_closed_form():
    world = draw_world("exact", np.random.default_rng(1))
    # The numeric optimum is known to the last grid's spacing.
    assert world.n_opt(1e21) == pytest.approx(world.law.n_opt(1e21), rel=1e-4)


def test_the_law_as_a_value_is_its_own_minimum():
    law = Law(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
    n = law.n_opt(np.array([1e18, 5.76e23]))
    # Hoffmann et al. 2022, eq. 4, with their printed parameters.
    g = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62)
    assert n == pytest.approx(g * (np.array([1e18, 5.76e23]) / 6) ** (0.28 / 0.62), rel=1e-9)
    assert law.d_opt(1e18) == pytest.approx(1e18 / (6 * n[0]))
    assert law.loss_opt(1e18) == pytest.approx(law.loss(n[0], 1e18 / (6 * n[0])))


@pytest.mark.parametrize("name", WORLDS)
def test_a_sweep_follows_the_optimum(name):
    rng = np.random.default_rng(2)
    world = draw_world(name, rng)
    table = adaptive_sweep(world, 0.002, rng)
    assert len(table) == 35
    top = table.num_params[table.compute_budget == 1e19]
    assert top.min() < world.n_opt(1e19) < top.max()
    assert isinstance(world.law, ChinchillaLaw)
    assert fit(table).recommended == "extended"


@pytest.mark.parametrize("design", DESIGNS.values())
@pytest.mark.parametrize("name", ALL_WORLDS)
def test_every_world_gives_a_table_of_any_design(name, design):
    table = draw_sweep(draw_world(name, np.random.default_rng(4)), design, np.random.default_rng(4))
    assert len(table) == sum(design.sizes)
    assert set(table.compute_budget) == set(design.budgets)
    assert np.all(table.loss > 1.4)
    assert table.epochs is None or table.epochs.max() == pytest.approx(4)


def test_the_deep_ladder_spans_three_and_a_half_decades_with_32_runs():
    assert sum(LADDER.sizes) == 32
    assert LADDER.budgets[-1] / LADDER.budgets[0] == pytest.approx(10**3.5)


@pytest.mark.parametrize(("name", "axis"), [("break_n", "alpha"), ("break_d", "beta")])
def test_a_broken_exponent_is_larger_below_the_middle_of_the_sweep_and_the_term_is_continuous(name, axis):
    world = draw_world(name, np.random.default_rng(0))
    middle = {"alpha": world.break_params, "beta": BREAK_COMPUTE / (6 * world.break_params)}[axis]

    def term(x):
        n, d = (middle * np.exp(x), 1e30) if axis == "alpha" else (1e30, middle * np.exp(x))
        return np.log(world.loss(n, d) - world.law.E)

    exponent = getattr(world.law, axis)
    # What is left of the other term at 1e30 is below 1e-6 of this one.
    assert (term(-1e-3) - term(0)) / 1e-3 == pytest.approx(1.25 * exponent, rel=1e-3)
    assert (term(0) - term(1e-3)) / 1e-3 == pytest.approx(0.75 * exponent, rel=1e-3)


def test_noise_that_runs_of_a_size_share_does_not_average_out():
    world, rng = draw_world("shared_noise", np.random.default_rng(3)), np.random.default_rng(8)
    errors = []
    for _ in range(50):
        table = draw_sweep(world, SQUARE, rng)
        errors.append(np.log(table.loss / world.loss(table.num_params, table.num_tokens)))
    order = np.argsort(table.num_params)
    first = next(i for i in range(len(order) - 1) if np.ptp(size_cells(table.num_params[order[i : i + 2]])) == 0)
    pair = np.array(errors)[:, order[first : first + 2]]
    # Half of the variance .003^2 is common to two runs of about one size; 50 sweeps know a correlation to .11.
    assert np.std(errors) == pytest.approx(0.003, rel=0.1)
    assert np.corrcoef(pair.T)[0, 1] == pytest.approx(0.5, abs=0.33)


def test_a_repeated_token_is_worth_less_than_a_fresh_one():
    # Muennighoff et al. 2023, eq. 5 with R_D* = 15.4: U (1 + R (1 - exp(-3 / R))) at four epochs.
    tokens = effective_tokens(np.array([50.0, 100.0, 400.0]), np.array([100.0]), 15.4)
    assert tokens == pytest.approx([50.0, 100.0, 100 * (1 + 15.4 * (1 - np.exp(-3 / 15.4)))])
