"""Tables too thin for an answer: a finding and a wide interval, or a typed error, never a narrow interval."""

import numpy as np
import pytest
from tables_of_runs import isoflop_table

from flops_fit.errors import ConfigError, FitError
from flops_fit.fitting import ChinchillaLaw, FitOptions, fit

HOFFMANN = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
FAST = FitOptions(num_bootstraps=20)


def thin(budgets, sizes):
    reach = 6 if sizes > 2 else 2
    table = isoflop_table(HOFFMANN, np.geomspace(1e18, 1e20, budgets), sizes, noise=0.003, reach=reach)
    return fit(table, options=FAST)


@pytest.mark.parametrize("sizes", [2, 7])
def test_two_budgets_give_no_law_and_a_typed_error(sizes):
    laws = thin(2, sizes)
    assert laws.trust.level == "no"
    assert {"few_budgets", "no_law"} <= {f.code for f in laws.findings if f.level == "error"}
    with pytest.raises(FitError, match="support no prediction"):
        laws.predict(1e21)


@pytest.mark.parametrize(
    ("budgets", "sizes", "code"), [(3, 7, "few_budgets"), (3, 3, "no_backtest"), (5, 2, "no_isoflop_curves")]
)
def test_three_budgets_or_two_sizes_each_are_a_warning_and_a_wide_interval(budgets, sizes, code):
    laws = thin(budgets, sizes)
    assert code in {f.code for f in laws.findings if f.level == "warning"}
    assert laws.trust.level == "care"
    low, high = laws.predict(1e21).num_params_interval
    # A full sweep of 6 x 7 has about 1.15 at this distance.
    assert high / low > 1.6
    assert low < HOFFMANN.n_opt(1e21) < high


def test_a_cut_of_nothing_is_refused():
    # It would be widened by a factor for ever.
    with pytest.raises(ConfigError, match=r"fit\.near_minima: got 0"):
        FitOptions(near_minima=0.0)
