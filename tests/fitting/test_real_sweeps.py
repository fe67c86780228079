"""The cases that benchmarks score are what they say: hidden budgets are hidden, and references are measured minima."""

import numpy as np
import pytest
from real_sweeps import GROUPS, REPORT, SWEEPS, TUNE, make_case, minima_of, parabola, read_sweep
from tables_of_runs import DATA

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the published runs are absent")


def test_the_halves_share_no_sweep_and_hold_all_seventeen():
    assert not set(TUNE) & set(REPORT)
    assert len(SWEEPS) == 17


@pytest.mark.parametrize("group", GROUPS)
def test_a_case_hides_the_budgets_that_its_group_names(group):
    name = "rw/tuned/short/const/standard/val"
    case, whole = make_case(name, group), read_sweep(name)
    budgets = np.unique(whole.compute_budget)
    # Its budgets stand a factor of two apart.
    hidden = int(group) if group.isdigit() else int(np.ceil(float(group[2:]) / np.log10(2)))
    assert case.table.compute_budget.max() == budgets[-hidden - 1]
    assert case.target.compute == budgets[-1]
    assert case.reach == pytest.approx(hidden * np.log10(2))


def test_the_reference_is_the_authors_own_optimum_where_they_published_it():
    # porian_rw_optima.csv, last row of this condition.
    assert np.exp(minima_of("rw/base/short/kaplan/standard/val")[-1].log_n) == pytest.approx(6.94e8, rel=0.01)


def test_a_parabola_finds_the_vertex_and_refuses_what_has_none():
    x = np.linspace(-1, 1, 7)
    assert parabola(x, 3 + (x - 0.2) ** 2) == pytest.approx((0.2, np.log(3)))
    assert parabola(x, 3 - x**2) is None
    assert parabola(x, 3 + (x - 2) ** 2) is None
    assert parabola(x[:3], 3 + x[:3] ** 2) is None
