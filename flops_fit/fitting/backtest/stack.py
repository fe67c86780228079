"""Stacks: several laws in one answer, each weighed by how well it predicted held-out budgets.

Up to `ALONE` decades beyond the runs the recommended law answers alone. From `STACKED` decades on it shares the answer
with the others that the registry marks, and keeps at least half of it; in between it moves from one to the other. What
the laws differ by is part of the interval, from where the runs end: rivals that all stand on one side widen it however
unsure they are. `tests/benchmarks/fitting.py real` and `worlds` measure it. Inverse variances as weights bring far
points closer to published ones, yet where a power law breaks they believe the surest law, which is wrong
(CONTRIBUTING.md, decisions).

The loss is such an average at every distance, of the laws that the registry marks for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flops_fit.fitting.backtest.form_error import REACH_OFFSET, FormError, form_error, widen_law
from flops_fit.fitting.backtest.trials import Trial
from flops_fit.fitting.methods.registry import Methods, loss_methods, stacked_methods
from flops_fit.fitting.methods.result import FittedMethod, LawFit, with_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import normal_quantile
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.records import FloatArray

ALONE, STACKED = 0.5, 1.0
"""Decades of C beyond the runs."""
KEPT = 0.5
"""Least weight of the recommended law."""
LEAST_ERROR = 0.1
"""Errors in ln N_opt, per unit of extrapolation, that three held-out budgets cannot tell from none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Fitted laws with their model-form errors, alone or together."""

    methods: Mapping[str, FittedMethod]
    forms: Mapping[str, FormError]
    """Of every law, those that were not fitted included."""
    log_low: float
    """ln of the smallest budget."""
    log_top: float
    """ln of the largest budget."""

    @property
    def laws(self) -> dict[str, LawFit]:
        """The laws of the fitted methods."""
        return {name: method.law for name, method in self.methods.items()}

    def alone(self, name: str, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """Log: one law's ln N_opt and ln loss there, its model-form error included, shape (m,)."""
        n, loss = self.methods[name].optimum(log_compute, level)
        form, distance = self.forms[name], normal_quantile(level) * self.distance(log_compute)
        return n.widened(form.n_sd * distance), loss.widened(form.loss_sd * distance)

    def loss_at(
        self, name: str, log_n: FloatArray, log_d: FloatArray, log_c: FloatArray, level: float
    ) -> Spread | None:
        """Log: one law's ln loss at any (N, D), its model-form error included; None where it has none."""
        spread = self.methods[name].log_loss_at(log_n, log_d, level)
        added = self.forms[name].loss_sd * (normal_quantile(level) * self.distance(log_c))
        return None if spread is None else spread.widened(added)

    def together(self, first: str, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """Log: ln N_opt and ln loss there by all laws, ``first`` alone near the runs."""
        weights, doubts = self.weights(first, log_compute), self.weights(first, log_compute, start=0.0)
        names = self._of_loss(first)
        each = {name: self.alone(name, log_compute, level) for name in dict.fromkeys((*weights, *names))}
        sizes = _mixture({name: each[name][0] for name in weights}, weights, doubts, level)
        return sizes, _by_precision({name: each[name][1] for name in names}, level)

    def loss_together(
        self, first: str, log_n: FloatArray, log_d: FloatArray, log_c: FloatArray, level: float
    ) -> Spread | None:
        """Log: ln loss at any (N, D) by the laws that the loss takes; None where ``first`` has no loss there."""
        found = {name: self.loss_at(name, log_n, log_d, log_c, level) for name in self._of_loss(first)}
        losses = {name: spread for name, spread in found.items() if spread is not None}
        return _by_precision(losses, level) if first in losses else None

    def weights(self, first: str, log_compute: FloatArray, start: float = ALONE) -> dict[str, FloatArray]:
        """Weight of each law in ln N_opt, each (m,); they sum to 1. Up to ``start`` decades ``first`` has all."""
        others = [name for name in stacked_methods() if name in self.methods and name != first]
        members = [first, *(name for name in others if self.methods[name].law.outcome == "converged")]
        precision = {name: 1 / (self.forms[name].n_score ** 2 + LEAST_ERROR**2) for name in members}
        reach = self.distance(log_compute) - REACH_OFFSET
        shared = (1 - KEPT) * np.clip((reach - start) / (STACKED - start), 0.0, 1.0)
        total = sum(precision.values())
        return {name: shared * p / total + (1 - shared) * (name == first) for name, p in precision.items()}

    def _of_loss(self, first: str) -> list[str]:
        """The laws whose average is the loss, ``first`` among them."""
        return [first, *(name for name in loss_methods() if name in self.methods and name != first)]

    def distance(self, log_compute: FloatArray) -> FloatArray:
        """Units of extrapolation at ln C, outside the budgets, that model-form errors are multiplied by."""
        beyond = np.maximum(log_compute - self.log_top, self.log_low - log_compute)
        return np.asarray(np.maximum(beyond / np.log(10), 0.0) + REACH_OFFSET)


def make_stack(methods: Methods, trials: Sequence[Trial], options: FitOptions) -> Stack:
    """The fitted methods with their model-form errors by the trials, which widen the exponents of their laws too."""
    forms = {name: form_error(name, trials, options) for name in methods.laws}
    fitted = {
        name: with_law(method, widen_law(method.law, forms[name], options.level))
        for name, method in methods.fitted.items()
    }
    log_runs = methods.log_runs
    return Stack(
        methods=fitted, forms=forms, log_low=float(log_runs.log_budgets[0]), log_top=float(log_runs.log_budgets[-1])
    )


def _by_precision(spreads: Mapping[str, Spread], level: float) -> Spread:
    """The mixture with weights in proportion to the inverse square of each interval's width."""
    precision = {name: np.maximum(s.high - s.low, 1e-9) ** -2 for name, s in spreads.items()}
    total = sum(precision.values())
    weights = {name: p / total for name, p in precision.items()}
    return _mixture(spreads, weights, weights, level)


def _mixture(
    spreads: Mapping[str, Spread],
    weights: Mapping[str, FloatArray],
    doubts: Mapping[str, FloatArray],
    level: float,
) -> Spread:
    """The mean, with the laws' own variances and, weighed by ``doubts``, the variance of the laws about it.

    A half-width counts as that of a normal distribution.
    """
    quantile = normal_quantile(level)
    value = sum(w * spreads[name].value for name, w in weights.items())

    def mean_square(part: str) -> FloatArray:
        return np.asarray(sum(w * getattr(spreads[name], part) ** 2 for name, w in weights.items()))

    between = sum(w * (quantile * (spreads[name].value - value)) ** 2 for name, w in doubts.items())
    down, up = np.sqrt(mean_square("down")), np.sqrt(mean_square("up"))
    return Spread(value=np.asarray(value), down=down, up=up, form=np.sqrt(mean_square("form") + between))
