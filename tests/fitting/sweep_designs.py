"""Sweep designs, and sweeps drawn by them from simulated worlds, with what a table hides or gets wrong."""

import math
from dataclasses import dataclass, fields

import numpy as np
from worlds import ASPECT, REFERENCE_COMPUTE, mistuning, table_of

from flops_fit.records import RunTable

MAX_EPOCHS = 4.0
"""Of repeated data, at the run with most tokens."""
REPEAT_CONSTANTS = {"repeated": 15.4, "repeated_hard": 5.0}
"""R_D* by world: the first is that of Muennighoff et al. 2023 (arXiv:2305.16264)."""
NOISE_AT_BOTTOM = 0.013
"""Where noise grows, a run of the smallest D has this sd of log loss."""
SHAPE_LOSS = 0.002
"""Excess log loss of a shape per squared e-fold of width over ASPECT x depth."""
BAD_RUNS, BAD_LOSS = 0.05, 0.05
"""With heavy tails: share of runs that went wrong, and the mean excess log loss of those."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """Budgets and sizes of a sweep, centred on a guess of D/N = 20."""

    budgets: tuple[float, ...]
    """Ascending, FLOPs."""
    sizes: tuple[int, ...]
    """Runs at each budget."""
    reach: float
    """Sizes go from centre / reach to centre * reach."""


SQUARE = Design(budgets=tuple(np.geomspace(1e17, REFERENCE_COMPUTE, 6)), sizes=(7,) * 6, reach=6.0)
"""The sweep of research/honesty.md section 4."""
LADDER = Design(
    budgets=tuple(REFERENCE_COMPUTE / math.sqrt(10) ** k for k in range(7, -1, -1)),
    sizes=(5, 5, 5, 5, 4, 3, 3, 2),
    reach=8.0,
)
"""The deep ladder of research/planning.md: 3.5 decades, 32 runs."""
SMALL = Design(budgets=tuple(np.geomspace(1e17, REFERENCE_COMPUTE, 5)), sizes=(4,) * 5, reach=6.0)
DESIGNS = {"square": SQUARE, "ladder": LADDER, "small": SMALL}


def draw_sweep(world, design, rng, *, noise=0.003):
    """Draws a table of runs; ``noise`` is the sd of log loss. ``world.n_opt`` is what a fit should predict."""
    budget = np.repeat(np.asarray(design.budgets), design.sizes)
    spread = np.concatenate([np.geomspace(1 / design.reach, design.reach, count) for count in design.sizes])
    n = np.sqrt(budget / 120) * spread
    excess = np.zeros(len(n))
    if world.name == "integer_shapes":
        n, excess = integer_shapes(n)
    if world.name == "mistuned":  # The target's rate will be tuned, those of the sweep's large models were not.
        excess = mistuning(world, n)
    d = world.num_tokens(budget, n)
    columns = {}
    if world.name == "no_embeddings":
        columns["num_params_non_embedding"] = n
    fresh = d
    if world.name in REPEAT_CONSTANTS:
        unique = np.full(len(d), d.max() / MAX_EPOCHS)
        columns |= {"unique_tokens": unique, "epochs": d / unique}
        fresh = effective_tokens(d, unique, REPEAT_CONSTANTS[world.name])
    error, sd = draw_errors(world.name, n, d, rng, noise)
    if world.name == "growing_noise" and "loss_std_error" in {field.name for field in fields(RunTable)}:
        columns["loss_std_error"] = sd * world.loss(n, fresh)
    return table_of(budget, n, d, world.loss(n, fresh) * np.exp(excess + error), **columns)


def effective_tokens(tokens, unique, constant):
    """D' of Muennighoff et al. 2023, eq. 5; D itself where nothing repeats."""
    seen = np.minimum(tokens, unique)
    repeats = np.maximum(tokens / unique - 1, 0.0)
    return seen * (1 - constant * np.expm1(-repeats / constant))


def integer_shapes(n):
    """N of the nearest model with whole layers and a width in steps of 64, and what its shape costs in log loss."""
    depth = np.maximum(np.round(np.cbrt(n / (12 * ASPECT**2))), 2)
    width = np.maximum(np.round(np.sqrt(n / (12 * depth)) / 64), 1) * 64
    return 12 * depth * width**2, SHAPE_LOSS * np.log(width / (ASPECT * depth)) ** 2


def draw_errors(name, n, d, rng, noise):
    """Errors of log loss and the sd of each."""
    sd = np.full(len(n), noise)
    if name == "growing_noise":
        depth = np.log(d.max() / d) / np.log(d.max() / d.min())
        sd = noise * (NOISE_AT_BOTTOM / noise) ** depth
    errors = sd * rng.standard_normal(len(n))
    if name == "shared_noise":
        # Runs of about one size stand on one initialisation: half of the variance is theirs together.
        _, index = np.unique(size_cells(n), return_inverse=True)
        errors = (errors + noise * rng.standard_normal(index.max() + 1)[index]) / math.sqrt(2)
    if name == "heavy_tails":
        errors = noise * rng.standard_t(3, len(n)) / math.sqrt(3)
        errors += np.where(rng.random(len(n)) < BAD_RUNS, rng.exponential(BAD_LOSS, len(n)), 0.0)
    return errors, sd


def size_cells(n):
    """A number for each size; sizes within about 1.8x have one in common."""
    return np.round(np.log(n) / math.log(1.8)).astype(int)
