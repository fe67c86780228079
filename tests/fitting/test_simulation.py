"""The simulated worlds, and runs that are simulated instead of trained."""

import numpy as np
import pytest
from worlds import WORLDS, adaptive_sweep, draw_world

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


@pytest.mark.parametrize("name", WORLDS)
def test_a_worlds_optimum_is_the_least_loss(name):
    world = draw_world(name, np.random.default_rng(5))
    compute = np.array([1e18, 1e20, 1e22])
    for factor in (0.98, 1.02):
        n = world.n_opt(compute) * factor
        assert np.all(world.loss(n, compute / (6 * n)) >= world.loss_opt(compute))


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
