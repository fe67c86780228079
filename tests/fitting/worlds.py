"""Worlds whose truth is known, to measure a fitter or a design in: one follows Chinchilla's form, three do not.

"exact" is Chinchilla; in "interaction" the two terms mix; in "curved" the data term bends in ln D; in "short_run"
short runs lose extra, as runs do whose warmup or batch is too long for them (Porian et al. 2024). On `adaptive_sweep`
at noise .005, Approach 3's N_opt at 1000 times the largest budget errs by .05, .06, .13 and .18 dex (root mean
square), and its 90% bootstrap interval of N_opt covers in 85, 95, 23 and 13% of sweeps: the last two show what a
wrong form does.
"""

import math
from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.laws import ChinchillaLaw
from flops_fit.records import RunTable

WORLDS = ("exact", "interaction", "curved", "short_run")
# Optimal D/N is drawn at this budget, FLOPs; it is also where the curved term has Chinchilla's slope.
REFERENCE_COMPUTE = 1e19
INTERACTION = 0.7
CURVATURE = 0.03
SHORT_RUN_LOSS, SHORT_RUN_EXPONENT = 0.02, 0.9


@dataclass(frozen=True, kw_only=True)
class World:
    """A truth that sweeps can be drawn from; C = 6 N D."""

    name: str
    law: ChinchillaLaw
    """Its Chinchilla part."""
    reference_tokens: float
    """D at which the departures from Chinchilla are centred."""

    def loss(self, num_params, num_tokens):
        """Loss at N, D of any shapes that broadcast."""
        n, d = np.asarray(num_params, dtype=np.float64), np.asarray(num_tokens, dtype=np.float64)
        first, second = self.law.A * n**-self.law.alpha, self.law.B * d**-self.law.beta
        distance = np.log(d / self.reference_tokens)
        if self.name == "interaction":
            power = 1 / INTERACTION
            return np.asarray(self.law.E + (first**power + second**power) ** INTERACTION)
        if self.name == "curved":
            second = second * np.exp(CURVATURE * distance**2)
        extra = SHORT_RUN_LOSS * np.exp(-SHORT_RUN_EXPONENT * distance) if self.name == "short_run" else 0.0
        return np.asarray(self.law.E + first + second + extra)

    def n_opt(self, compute):
        """N that minimises the loss on C FLOPs, by a grid refined three times; shape of ``compute``."""
        log_c = np.log(np.asarray(compute, dtype=np.float64))[..., None]
        middle, reach = np.log(self.law.n_opt(compute))[..., None], 6.0
        for _ in range(4):
            log_n = middle + reach * np.linspace(-1, 1, 121)
            loss = self.loss(np.exp(log_n), np.exp(log_c - np.log(6) - log_n))
            middle = np.take_along_axis(log_n, np.argmin(loss, axis=-1)[..., None], axis=-1)
            reach /= 30
        return np.asarray(np.exp(middle[..., 0]))

    def loss_opt(self, compute):
        """Loss at that N."""
        n = self.n_opt(compute)
        return self.loss(n, np.asarray(compute, dtype=np.float64) / (6 * n))


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
    return World(name=name, law=law, reference_tokens=d)


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
    budget_column, n, d, loss = np.concatenate(columns, axis=1)
    names = tuple(f"simulated {i}" for i in range(len(n)))
    return RunTable(
        compute_budget=budget_column,
        compute=6 * n * d,
        num_params=n,
        num_tokens=d,
        loss=loss,
        source=names,
        condition=("",) * len(n),
        group=names,
        seed=np.zeros(len(n), dtype=np.int64),
        name="simulated",
    )


def _vertex(log_n, loss):
    c2, c1, _ = np.polyfit(log_n, loss, 2)
    best = float(-c1 / (2 * c2)) if c2 > 0 else float(log_n[np.argmin(loss)])
    return math.exp(min(max(best, float(log_n[0])), float(log_n[-1])))
