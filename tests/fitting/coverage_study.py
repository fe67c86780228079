"""One simulated sweep, fitted and compared with its truth: the cell of every coverage study."""

import numpy as np
from sweep_designs import DESIGNS, draw_sweep
from worlds import draw_world

from flops_fit.fitting import FitOptions, fit

TARGETS = (10.0, 100.0, 1000.0)
"""Times the largest budget."""
BOOTSTRAPS = 60


def study_cell(name, design, seed, *, noise=0.003, bootstraps=BOOTSTRAPS):
    """Errors in logs, coverage and width of the recommended law's intervals at `TARGETS`."""
    rng = np.random.default_rng([seed, 7])
    world = draw_world(name, rng)
    table = draw_sweep(world, DESIGNS[design], rng, noise=noise)
    laws = fit(table, options=FitOptions(num_bootstraps=bootstraps))
    compute = np.array(TARGETS) * table.compute_budget.max()
    truth, loss = world.n_opt(compute), world.loss_opt(compute)
    value, low, high = laws.n_opt_band(compute)
    loss_value, loss_low, loss_high = laws.loss_band(compute)
    return {
        "error": np.log(value / truth),
        "n": (low <= truth) & (truth <= high),
        "width": np.log(high / low),
        "loss_error": np.log(loss_value / loss),
        "loss": (loss_low <= loss) & (loss <= loss_high),
    }
