"""Comparison of conditions: differences of their loss and exponent at one compute, with joint intervals.

One law is fitted to all conditions, so that what is compared is the same quantity. Its uncertainty is drawn for each
condition by itself: from the posterior of the extended law, else from a law's bootstrap; plus its model-form error, and
for the loss the error of the finite held-out set, which no scatter between runs shows. A difference is the difference
of independent draws. Conditions that share seeds and held-out objects have errors in common that cancel, so the
intervals are then on the wide side.

The intervals hold all differences at once (Bonferroni over two quantities times the pairs): where nothing differs, some
interval leaves out zero in at most 10 % of comparisons at level 0.9.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from flops_fit.errors import FitError, InputError
from flops_fit.fitting.draws import DRAWN, draw_answers
from flops_fit.fitting.methods.registry import preferred_methods
from flops_fit.fitting.scaling_laws import LOSS_REACH, ScalingLaws
from flops_fit.fitting.trust import TrustLevel
from flops_fit.quantities import format_flops
from flops_fit.records import FloatArray, Interval

NUM_DRAWS = 40_000
"""Of each condition: with nine conditions, 72 differences, the tails still hold about 28 draws."""
OF_THE_EXPONENT = {"exponent_unknown", "no_useful_interval"}
"""Errors that speak of N_opt and its exponent. Along a budget the loss is flat around N_opt, and its interval holds
what they leave open, so the loss can be used where these are the only ones."""
NEAR = 0.05
"""Runs this close to their budget's best loss tell the error of the held-out set at the optimum."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Standard deviations that make up the uncertainty of a number or of a difference."""

    statistical: float
    """By noise, if the law had exactly the fitted shape."""
    form: float
    """By the law's form: what freeing its shape adds, and the model-form error learned from backtests."""
    held_out: float
    """By the finite held-out set."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Condition:
    """One condition's answer at the common compute."""

    name: str
    loss: Interval
    a: Interval
    """Exponent of N_opt ~ C^a in the middle of the compute that all conditions have in common."""
    loss_parts: Parts
    trust: TrustLevel
    headline: str
    loss_decides: bool
    """Whether its loss can be used: not where an error speaks of more than N_opt and its exponent."""
    exponent_decides: bool
    """Whether its exponent can be used: not where the law as a whole cannot."""
    loss_draws: FloatArray
    exponent_draws: FloatArray


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First minus second of a pair, with intervals that hold jointly."""

    first: str
    second: str
    loss: Interval
    relative_loss: Interval
    """First over second minus one."""
    a: Interval
    loss_parts: Parts


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is known of the differences between conditions."""

    compute: float
    """The largest compute that all conditions reach, FLOPs."""
    law: str
    level: float
    """Of each condition's own interval, and of all differences jointly."""
    single_level: float
    """Of one difference by itself."""
    conditions: tuple[Condition, ...]
    differences: tuple[Difference, ...]

    @property
    def untrusted(self) -> tuple[Condition, ...]:
        """Conditions whose law is not to be used, for the exponent at least."""
        return tuple(condition for condition in self.conditions if condition.trust == "no")

    @property
    def differing(self) -> tuple[Difference, ...]:
        """Pairs of which an interval leaves out zero, of a number that can be used in both conditions."""
        losses = {condition.name for condition in self.conditions if condition.loss_decides}
        exponents = {condition.name for condition in self.conditions if condition.exponent_decides}
        return tuple(
            d
            for d in self.differences
            if (_excludes_zero(d.loss) and {d.first, d.second} <= losses)
            or (_excludes_zero(d.a) and {d.first, d.second} <= exponents)
        )


def compare_laws(conditions: Mapping[str, ScalingLaws], *, level: float = 0.9, seed: int = 0) -> Comparison:
    """Compares the conditions at the largest compute that all of them reach.

    Args:
        conditions: Fits by name of the condition, two or more.
        level: Coverage of the intervals.
        seed: Of the draws.

    Raises:
        InputError: If there is only one condition, or their compute does not overlap.
        FitError: If no law was fitted to all of them.
    """
    if len(conditions) < 2:
        raise InputError(f"got {len(conditions)} fitted condition, expected two or more to compare.")
    compute, law = common_compute(conditions), common_law(conditions)
    start = max(laws.min_compute for laws in conditions.values())
    middle = float(np.log(start * compute) / 2)
    answers = tuple(
        _condition(name, laws, law, compute, middle, level, np.random.default_rng([seed, index]))
        for index, (name, laws) in enumerate(conditions.items())
    )
    pairs = list(combinations(answers, 2))
    single = 1 - (1 - level) / (2 * len(pairs))
    differences = tuple(_difference(first, second, level, single) for first, second in pairs)
    return Comparison(
        compute=compute, law=law, level=level, single_level=single, conditions=answers, differences=differences
    )


def common_compute(conditions: Mapping[str, ScalingLaws]) -> float:
    """The largest compute that all conditions reach.

    Raises:
        InputError: If one of them begins above it.
    """
    reached = min(laws.max_compute for laws in conditions.values())
    for name, laws in conditions.items():
        if laws.min_compute > reached:
            raise InputError(
                f"{name}: its sweep begins at {format_flops(laws.min_compute)} FLOPs, expected at most "
                f"{format_flops(reached)}, where another one ends. Sweep all conditions over the same budgets."
            )
    return reached


def common_law(conditions: Mapping[str, ScalingLaws]) -> str:
    """Name of the law to compare by: the recommended one where all recommend the same.

    Else the most preferred one that was fitted to all, one that converged on all before others.

    Raises:
        FitError: If there is none.
    """
    every = list(conditions.values())
    fitted = [name for name in preferred_methods() if all(_can_draw(laws, name) for laws in every)]
    recommended = {laws.recommended for laws in every}
    if len(recommended) == 1 and recommended <= set(fitted):
        return next(name for name in fitted if name in recommended)
    if not fitted:
        reasons = "; ".join(f"{name}: {', '.join(laws.methods) or 'none'}" for name, laws in conditions.items())
        raise FitError(f"no law was fitted to all conditions ({reasons}). Train more runs for those with fewer laws.")
    sound = [name for name in fitted if all(laws.laws[name].outcome == "converged" for laws in every)]
    return (sound or fitted)[0]


def _can_draw(laws: ScalingLaws, name: str) -> bool:
    return isinstance(laws.methods.get(name), DRAWN)


def _condition(
    name: str, laws: ScalingLaws, law: str, compute: float, middle: float, level: float, rng: np.random.Generator
) -> Condition:
    log_c = float(np.log(compute))
    loss, exponent = draw_answers(laws.methods[law], log_c, middle, NUM_DRAWS, rng)
    form = laws.stack.forms[law]
    loss_form = form.loss_sd * float(laws.stack.distance(np.array(log_c)))
    held_out = _held_out_error(laws, compute)
    # Held to the range that predictions are held to.
    seen = np.log(laws.runs.loss)
    possible = float(seen.min()) - LOSS_REACH, float(seen.max()) + LOSS_REACH
    log_loss = np.clip(loss.draws + np.hypot(loss_form, held_out) * rng.standard_normal(NUM_DRAWS), *possible)
    slopes = exponent.draws + form.n_sd / np.log(10) * rng.standard_normal(NUM_DRAWS)
    value = float(np.exp(np.clip(loss.value, *possible)))
    parts = Parts(
        statistical=value * loss.statistical_sd, form=value * float(np.hypot(loss.form_sd, loss_form)),
        held_out=value * held_out,
    )  # fmt: skip
    trust = laws.trust if laws.recommended is None else laws.predict(compute, law=law).trust
    errors = {finding.code for finding in trust.reasons if finding.level == "error"}
    return Condition(
        name=name, loss=_interval(value, np.exp(log_loss), level), a=_interval(exponent.value, slopes, level),
        loss_parts=parts, trust=trust.level, headline=trust.headline,
        loss_decides=laws.recommended is not None and errors <= OF_THE_EXPONENT, exponent_decides=trust.level != "no",
        loss_draws=np.exp(log_loss),
        exponent_draws=slopes,
    )  # fmt: skip


def _held_out_error(laws: ScalingLaws, compute: float) -> float:
    """Relative standard error of a loss at this compute over the held-out samples; 0 where it is not known.

    All runs of a condition are evaluated on the same samples, so the fit's own noise does not include it.
    """
    runs = laws.runs
    if runs.loss_std_error is None:
        return 0.0
    budget = runs.compute_budget[np.argmin(np.abs(np.log(runs.compute_budget / compute)))]
    here = runs.compute_budget == budget
    near = here & (runs.loss <= (1 + NEAR) * runs.loss[here].min()) & np.isfinite(runs.loss_std_error)
    return float(np.median(runs.loss_std_error[near] / runs.loss[near])) if near.any() else 0.0


def _difference(first: Condition, second: Condition, level: float, single: float) -> Difference:
    one, two = first.loss_parts, second.loss_parts
    parts = Parts(
        statistical=float(np.hypot(one.statistical, two.statistical)), form=float(np.hypot(one.form, two.form)),
        held_out=float(np.hypot(one.held_out, two.held_out)),
    )  # fmt: skip

    def joint(value: float, draws: FloatArray) -> Interval:
        found = _interval(value, draws, single)
        return Interval(value=found.value, low=found.low, high=found.high, level=level)

    return Difference(
        first=first.name,
        second=second.name,
        loss=joint(first.loss.value - second.loss.value, first.loss_draws - second.loss_draws),
        relative_loss=joint(first.loss.value / second.loss.value - 1, first.loss_draws / second.loss_draws - 1),
        a=joint(first.a.value - second.a.value, first.exponent_draws - second.exponent_draws),
        loss_parts=parts,
    )


def _excludes_zero(interval: Interval) -> bool:
    return not interval.low <= 0.0 <= interval.high


def _interval(value: float, draws: FloatArray, level: float) -> Interval:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value), level=level)
