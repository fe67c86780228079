"""Worlds: simulated truths, to measure a fitter or a design in. One follows Chinchilla's form, the others do not.

The four of `WORLDS` vary the form of the law, those of `OUTSIDE_WORLDS` break what every law of this package assumes:
exponents that bend or break, runs that lose extra to warmup, few tokens per parameter or a mis-tuned rate, and
sweeps whose sizes, noise or counts are not what the table says (`sweep_designs.py` draws those).
`VARIANTS` are other strengths and signs of the same, on which nothing is tuned.
On `adaptive_sweep` at noise .005, Approach 3's N_opt at 1000 times the largest budget errs in the four worlds by
.05, .06, .13 and .18 dex (root mean square), and its 90% bootstrap interval of N_opt covers in 85, 95, 23 and 13%.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from flops_fit.fitting.laws import ChinchillaLaw
from flops_fit.records import RunTable

WORLDS = ("exact", "interaction", "curved", "short_run")
OUTSIDE_WORLDS = (
    "bend",
    "warm",
    "warm_x2",
    "break_n",
    "break_d",
    "ratio_penalty",
    "mistuned",
    "integer_shapes",
    "shared_noise",
    "no_embeddings",
    "repeated",
    "growing_noise",
)
VARIANTS = (
    "bend_half",
    "bend_x2",
    "bend_reversed",
    "bend_same",
    "mistuned_everywhere",
    "repeated_hard",
    "heavy_tails",
    "everything",
)
ALL_WORLDS = (*WORLDS, *OUTSIDE_WORLDS, *VARIANTS)

# Optimal D/N is drawn at this budget, FLOPs; it is also where the curved term has Chinchilla's slope.
REFERENCE_COMPUTE = 1e19
# Local exponents break at the optimum of this budget, the middle of a sweep from 1e17 to 1e19 FLOPs.
BREAK_COMPUTE = 1e18
INTERACTION = 0.7
CURVATURE = 0.03
SHORT_RUN_LOSS, SHORT_RUN_EXPONENT = 0.02, 0.9
BEND = 0.006
"""ln T1 bends by +, ln T2 by - this times ln^2: no sweep of two decades shows it, and 1000 times beyond it matters.

Where both bend alike, their effects on N_opt all but cancel."""
WARMUP_SHARE = 0.01
"""Tokens of a linear warmup, as a share of D at the reference: 1/10 of an optimal run at 1e17 FLOPs."""
BEFORE_BREAK, AFTER_BREAK = 1.25, 0.75
RATIO_LOSS, RATIO_EXPONENT = 0.01, 1.0
"""Excess loss at 20 tokens per parameter, and how it falls as they grow."""
MISTUNED_LOSS = 0.001
"""Excess log loss per squared e-fold of N above the optimum where exponents break."""
VOCABULARY, ASPECT = 50_257, 64
"""Embeddings have VOCABULARY x width parameters; width is ASPECT x depth."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A truth that sweeps can be drawn from; C = 6 N D, but for uncounted embeddings."""

    name: str
    law: ChinchillaLaw
    """Its Chinchilla part."""
    reference_tokens: float
    """D at which the departures from Chinchilla are centred."""
    reference_params: float
    """N there."""

    def loss(self, num_params, num_tokens):
        """Loss at N, D of any shapes that broadcast."""
        n, d = np.asarray(num_params, dtype=np.float64), np.asarray(num_tokens, dtype=np.float64)
        return np.asarray(SURFACES.get(self.name, plain)(self, n, d))

    def terms(self, n, d):
        """The two terms of its Chinchilla part."""
        return self.law.A * n**-self.law.alpha, self.law.B * d**-self.law.beta

    def num_tokens(self, compute, num_params):
        """D that C FLOPs train N parameters on; embeddings cost FLOPs although N leaves them out."""
        n = np.asarray(num_params, dtype=np.float64)
        return compute / (6 * (n + embeddings(n) if self.name == "no_embeddings" else n))

    @property
    def break_params(self):
        """N_opt at BREAK_COMPUTE, by the Chinchilla part."""
        return float(self.law.n_opt(BREAK_COMPUTE))

    def n_opt(self, compute):
        """N that minimises the loss on C FLOPs, by a grid refined three times; shape of ``compute``."""
        log_c = np.log(np.asarray(compute, dtype=np.float64))[..., None]
        middle, reach = np.log(self.law.n_opt(compute))[..., None], 6.0
        for _ in range(4):
            log_n = middle + reach * np.linspace(-1, 1, 121)
            loss = self.loss(np.exp(log_n), self.num_tokens(np.exp(log_c), np.exp(log_n)))
            middle = np.take_along_axis(log_n, np.argmin(loss, axis=-1)[..., None], axis=-1)
            reach /= 30
        return np.asarray(np.exp(middle[..., 0]))

    def loss_opt(self, compute):
        """Loss at that N."""
        n = self.n_opt(compute)
        return self.loss(n, self.num_tokens(np.asarray(compute, dtype=np.float64), n))


def plain(world, n, d):
    return world.law.E + sum(world.terms(n, d))


def interaction(world, n, d):
    """The two terms mix with power k = .7."""
    first, second = world.terms(n, d)
    power = 1 / INTERACTION
    return world.law.E + (first**power + second**power) ** INTERACTION


def bend(world, n, d, size=BEND, data=-BEND):
    """Both terms bend about the reference: an exponent shrinks outwards where its curvature is positive."""
    first, second = world.terms(n, d)
    x, y = np.log(n / world.reference_params), np.log(d / world.reference_tokens)
    return world.law.E + first * np.exp(size * x**2) + second * np.exp(data * y**2)


def short_run(world, n, d):
    """Short runs lose extra, as runs do whose warmup or batch is too long for them (Porian et al. 2024)."""
    return plain(world, n, d) + SHORT_RUN_LOSS * (d / world.reference_tokens) ** -SHORT_RUN_EXPONENT


def warm(world, n, d, strength=1.0):
    """The rate rises linearly over W tokens, whatever D is: D^2 / 2W tokens count of a shorter run, else D - W / 2."""
    warmup = strength * WARMUP_SHARE * world.reference_tokens
    return plain(world, n, np.where(d < warmup, d**2 / (2 * warmup), d - warmup / 2))


def broken(world, n, d, in_params):
    """An exponent is 1.25 of itself below the middle of the sweep and .75 above; the term is continuous."""
    first, second = world.terms(n, d)
    middle = world.break_params
    if in_params:
        x, exponent = np.log(n / middle), world.law.alpha
        slope = np.where(x < 0, BEFORE_BREAK, AFTER_BREAK)
        return world.law.E + first * np.exp(exponent * x * (1 - slope)) + second
    y, exponent = np.log(d * 6 * middle / BREAK_COMPUTE), world.law.beta
    slope = np.where(y < 0, BEFORE_BREAK, AFTER_BREAK)
    return world.law.E + first + second * np.exp(exponent * y * (1 - slope))


def ratio_penalty(world, n, d):
    """Runs with few tokens per parameter lose extra."""
    return plain(world, n, d) + RATIO_LOSS * (d / n / 20) ** -RATIO_EXPONENT


def mistuned(world, n, d):
    """The learning rate was tuned on small models, and so is the target's: large ones lose with the square of ln N."""
    return plain(world, n, d) * np.exp(mistuning(world, n))


def mistuning(world, n):
    """Excess log loss of a rate that was tuned on models up to the middle of the sweep."""
    return MISTUNED_LOSS * np.maximum(np.log(n / world.break_params), 0.0) ** 2


def no_embeddings(world, n, d):
    """N leaves out the embeddings, while loss and FLOPs count them (Kaplan et al. 2020, arXiv:2001.08361)."""
    return plain(world, n + embeddings(n), d)


def embeddings(n):
    """Parameters of the embeddings of a model with N others."""
    return VOCABULARY * np.cbrt(ASPECT * n / 12)


def everything(world, n, d):
    """A bend, a warmup and a penalty at once."""
    extra = warm(world, n, d, 0.5) + 0.5 * (ratio_penalty(world, n, d) - plain(world, n, d)) - plain(world, n, d)
    return bend(world, n, d) + extra


SURFACES: dict[str, Callable] = {
    "interaction": interaction,
    "curved": partial(bend, size=0.0, data=CURVATURE),
    "short_run": short_run,
    "bend": bend,
    "bend_half": partial(bend, size=BEND / 2, data=-BEND / 2),
    "bend_x2": partial(bend, size=2 * BEND, data=-2 * BEND),
    "bend_reversed": partial(bend, size=-BEND, data=BEND),
    "bend_same": partial(bend, size=BEND, data=BEND),
    "warm": warm,
    "warm_x2": partial(warm, strength=2.0),
    "break_n": partial(broken, in_params=True),
    "break_d": partial(broken, in_params=False),
    "ratio_penalty": ratio_penalty,
    "mistuned_everywhere": mistuned,
    "no_embeddings": no_embeddings,
    "everything": everything,
}
"""L(N, D) by world; a world that is not here is Chinchilla's, and its sweeps are drawn otherwise."""


def draw_world(name, rng):
    """Draws exponents from U(.25, .5) and the optimal D/N at 1e19 FLOPs from 3 to 150.

    The loss there is 2.5 to 3.5 nats, of which E is 1.4 to 2.
    """
    alpha, beta = rng.uniform(0.25, 0.5, size=2)
    ratio = math.exp(rng.uniform(math.log(3), math.log(150)))
    irreducible, reducible = rng.uniform(1.4, 2.0), rng.uniform(1.0, 1.5)
    n = math.sqrt(REFERENCE_COMPUTE / (6 * ratio))
    d = ratio * n
    # alpha T1 = beta T2 at the optimum, and T1 + T2 is the reducible loss.
    first = reducible * beta / (alpha + beta)
    law = ChinchillaLaw(E=irreducible, A=first * n**alpha, B=(reducible - first) * d**beta, alpha=alpha, beta=beta)
    return World(name=name, law=law, reference_tokens=d, reference_params=n)


def adaptive_sweep(
    law,
    noise,
    rng,
    *,
    compute_budgets=(1e17, 10**17.5, 1e18, 10**18.5, 1e19),
    sizes_per_budget=7,
    reach=4.0,
):
    """Draws a sweep whose sizes follow the minima found so far.

    The first budget is centred on D/N = 20 and twice as wide; each later one on the last budget's parabola
    (its best size where there is none) moved along with C^0.5.

    Args:
        law: The truth, on C = 6 N D.
        noise: Standard deviation of log loss.
        rng: Source of the noise.
        compute_budgets: Ascending, FLOPs.
        sizes_per_budget: Runs at each.
        reach: Sizes go from centre / reach to centre * reach.
    """
    centre, columns = math.sqrt(compute_budgets[0] / 120), []
    for index, budget in enumerate(compute_budgets):
        if index:
            centre *= math.sqrt(budget / compute_budgets[index - 1])
        wide = reach * (2 if index == 0 else 1)
        n = centre * np.geomspace(1 / wide, wide, sizes_per_budget)
        d = budget / (6 * n)
        loss = law.loss(n, d) * np.exp(noise * rng.standard_normal(len(n)))
        columns.append(np.stack([np.full(len(n), budget), n, d, loss]))
        centre = _vertex(np.log(n), loss)
    return table_of(*np.concatenate(columns, axis=1))


def table_of(budget, n, d, loss, **columns):
    """Simulated runs that spend their budget."""
    names = tuple(f"simulated {i}" for i in range(len(n)))
    return RunTable(
        compute_budget=budget,
        compute=budget,
        num_params=n,
        num_tokens=d,
        loss=loss,
        source=names,
        condition=("",) * len(n),
        group=names,
        seed=np.zeros(len(n), dtype=np.int64),
        name="simulated",
        **columns,
    )


def _vertex(log_n, loss):
    c2, c1, _ = np.polyfit(log_n, loss, 2)
    best = float(-c1 / (2 * c2)) if c2 > 0 else float(log_n[np.argmin(loss)])
    return math.exp(min(max(best, float(log_n[0])), float(log_n[-1])))
