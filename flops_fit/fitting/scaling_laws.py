"""The result of a fit: every method's law, the recommended one and why, and the findings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flops_fit.errors import ConfigError, FitError
from flops_fit.fitting import prediction as predictions
from flops_fit.fitting.backtest.recommendation import Recommendation
from flops_fit.fitting.backtest.stack import Stack
from flops_fit.fitting.backtest.trials import Trial, log_n_at_ratio
from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.methods.registry import check_law, not_fitted, preferred_methods, stacked_methods
from flops_fit.fitting.methods.result import BacktestRow, FittedMethod, IsoflopCurve, LawFit, plain_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.parameter_counts import ParameterCount
from flops_fit.fitting.prediction import Baseline, Prediction
from flops_fit.fitting.trust import Trust, judge
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.quantities import count_of, format_flops
from flops_fit.records import ExcludedRun, Finding, FloatArray, RunTable
from flops_fit.schema import to_plain

LOSS_REACH = float(np.log(1000.0))
"""A loss is within a factor of 1000 of what was seen."""
Band = tuple[FloatArray, FloatArray, FloatArray]
"""Values, their lower and their upper ends, each of shape (m,)."""
Numbers = FloatArray | float


@dataclass(frozen=True, kw_only=True, eq=False)
class ScalingLaws:
    """Everything that one call of `fit` found."""

    runs: RunTable
    """The runs that entered."""
    runs_excluded: tuple[ExcludedRun, ...]
    recommended: str | None
    """Name of the law to use; None where no law was fitted."""
    reason: str
    """Why that one."""
    laws: Mapping[str, LawFit]
    isoflop_curves: tuple[IsoflopCurve, ...]
    findings: tuple[Finding, ...]
    backtest: tuple[BacktestRow, ...]
    options: FitOptions
    flops: FlopsFunction
    """FLOPs per token as a function of N, measured on the runs."""
    recommendation: Recommendation = field(repr=False)
    stack: Stack = field(repr=False)
    """The fitted methods, alone and together."""
    reasons_not_fitted: Mapping[str, str] = field(repr=False)
    """Why a method that is not in ``methods`` has no answer, by name."""
    trials: tuple[Trial, ...] = field(repr=False)
    min_compute: float
    """Smallest budget that was fitted, FLOPs."""
    max_compute: float
    """Largest budget that was fitted, FLOPs."""
    parameter_counts: tuple[ParameterCount, ...]
    """The same runs with parameters counted in other ways."""
    laws_without_exclusions: Mapping[str, LawFit]
    """The laws with outliers and repeated data left in; empty where none was left out."""

    @property
    def methods(self) -> Mapping[str, FittedMethod]:
        """The fitted methods by name."""
        return self.stack.methods

    @property
    def trust(self) -> Trust:
        """Whether the fit can be used, and why not."""
        return judge(self.findings, recommended=self.recommended, reason=self.reason)

    @property
    def tested_factor(self) -> float:
        """The farthest extrapolation, as a factor of C, that a backtest of the recommended law tested; 1 for none."""
        return self._tested_factor(self.recommended)

    def is_tested(self, compute: float) -> bool:
        """Whether the backtests of the recommended law reach as far as ``compute``."""
        return compute <= self.max_compute * self.tested_factor

    def predict(self, compute: float, *, law: str | None = None, level: float | None = None) -> Prediction:
        """Predicts the compute-optimal model on ``compute`` FLOPs.

        Args:
            compute: C, training FLOPs, positive.
            law: Name of a method, alone; None takes the recommended one, and far outside the runs others beside it.
            level: Nominal coverage of the intervals; None takes the fit's.

        Raises:
            ConfigError: If compute, law or level is out of range.
            FitError: If no law is recommended for these runs, or ``law`` was not fitted to them.
        """
        if not (np.isfinite(compute) and compute > 0):
            raise ConfigError(f"compute: got {compute}, expected a positive number of FLOPs.")
        name, level = self._law_name(law), self._level(level)
        log_c = np.array([np.log(compute)])
        n, loss = self._spreads(law, log_c, level)
        weights = {name: 1.0}
        rivals: dict[str, Spread] = {}
        if not self._asks_for_one(law):
            weights = {key: float(w[0]) for key, w in self.stack.weights(name, log_c).items() if w[0] > 1e-6}
            members = [rival for rival in stacked_methods() if rival in self.methods]
            rivals = {rival: self.stack.alone(rival, log_c, level)[0] for rival in members}
        findings = (
            *predictions.diagnose_range(compute, self.min_compute, self.max_compute, self._tested_factor(name)),
            *predictions.diagnose_size(n, rivals, self.flops),
        )
        differ = any(f.code == "methods_disagree" for f in findings)
        of_the_fit = [f for f in self.findings if not (differ and f.code == "methods_disagree")]
        leading = tuple(f for f in findings if f.code in predictions.LEADING_CODES)
        num_trials = sum(t.law == name for t in self.trials)
        is_default = not self._asks_for_one(law) and name == preferred_methods()[0]
        num_params, num_tokens, ratio, expected = predictions.make_estimates(n, loss, self.flops, log_c)
        nearby, _ = self._spreads(law, log_c[0] + np.array([-0.5, 0.5]), level)
        return Prediction(
            compute=float(compute),
            law=name,
            weights=weights,
            level=level,
            extrapolation_factor=float(compute) / self.max_compute,
            num_params_estimate=num_params,
            num_tokens_estimate=num_tokens,
            tokens_per_param_estimate=ratio,
            loss_estimate=expected,
            exponent=float(nearby.value[1] - nearby.value[0]),
            baseline=self.baseline(compute, law=law),
            interval_basis=predictions.interval_basis(weights, level, num_trials, is_default=is_default),
            findings=findings,
            trust=judge((*findings, *of_the_fit), recommended=name, reason=self.reason, leading=leading),
        )

    def baseline(self, compute: float, *, law: str | None = None) -> Baseline:
        """The rule D/N = 20 on ``compute`` FLOPs, with the loss that one law expects there."""
        log_c = np.array([np.log(compute)])
        log_n = np.array([log_n_at_ratio(self.flops, float(log_c[0]))])
        log_d = self.flops.log_tokens(log_c, log_n)
        loss = self.methods[self._law_name(law)].log_loss_at(log_n, log_d, self.options.level)
        return Baseline(
            num_params=float(np.exp(log_n[0])),
            num_tokens=float(np.exp(log_d[0])),
            loss=None if loss is None else float(np.exp(loss.value[0])),
        )

    def n_opt_band(self, compute: FloatArray, *, law: str | None = None, level: float | None = None) -> Band:
        """N_opt, its lower and its upper end at each C of shape (m,), for drawing."""
        n, _ = self._spreads(law, np.log(compute), self._level(level))
        return _band(n)

    def d_opt_band(self, compute: FloatArray, *, law: str | None = None, level: float | None = None) -> Band:
        """D_opt, its lower and its upper end at each C of shape (m,)."""
        n, _ = self._spreads(law, np.log(compute), self._level(level))
        value, low, high = (np.exp(self.flops.log_tokens(np.log(compute), v)) for v in (n.value, n.high, n.low))
        return value, low, high

    def loss_band(self, compute: FloatArray, *, law: str | None = None, level: float | None = None) -> Band:
        """Loss at the optimum, its lower and its upper end at each C of shape (m,)."""
        _, loss = self._spreads(law, np.log(compute), self._level(level))
        return _band(loss)

    def loss_at(
        self, num_params: Numbers, num_tokens: Numbers, *, law: str | None = None, level: float | None = None
    ) -> Band | None:
        """Loss at any (N, D) with its interval, as three arrays; None where the law has no L(N, D)."""
        name, level = self._law_name(law), self._level(level)
        log_n, log_d = np.atleast_1d(np.log(num_params)), np.atleast_1d(np.log(num_tokens))
        log_c = self.flops.log_flops_per_token(log_n) + log_d
        of_loss = self.stack.loss_at if self._asks_for_one(law) else self.stack.loss_together
        spread = of_loss(name, log_n, log_d, log_c, level)
        return None if spread is None else _band(spread.bounded(*self._loss_bounds()))

    def to_plain(self) -> dict[str, Any]:
        """The object that `fit --json` prints."""
        return {
            "recommended": self.recommended,
            "reason": self.reason,
            "trust": self.trust.to_plain(),
            "laws": {name: plain_law(law) for name, law in self.laws.items()},
            "level": self.options.level,
            "runs_used": len(self.runs),
            "runs_excluded": to_plain(self.runs_excluded),
            "findings": to_plain(self.findings),
            "laws_without_exclusions": {name: plain_law(law) for name, law in self.laws_without_exclusions.items()},
            "parameter_counts": to_plain(self.parameter_counts),
            "backtest": {"rows": to_plain(self.backtest), "recommendation": to_plain(self.recommendation)},
        }

    def __repr__(self) -> str:
        lines = [self.trust.headline]
        law = None if self.recommended is None else self.laws[self.recommended]
        if law is not None and law.a is not None and law.b is not None:
            a, b = (f"{x.value:.3g} [{x.low:.3g}, {x.high:.3g}]" for x in (law.a, law.b))
            exponents = f"N_opt ~ C^{a}, D_opt ~ C^{b}, {self.options.level:.0%} intervals"
            lines.append(f"ScalingLaws, law={law.name}: {exponents}")
        runs, budgets = count_of(len(self.runs), "run"), count_of(len(self.isoflop_curves), "budget")
        span = f"{format_flops(self.min_compute)} to {format_flops(self.max_compute)} FLOPs"
        return "\n".join([*lines, f"{runs} at {budgets} from {span}, {len(self.runs_excluded)} excluded"])

    def _tested_factor(self, law: str | None) -> float:
        return max((t.factor for t in self.trials if t.law == law), default=1.0)

    def _law_name(self, law: str | None) -> str:
        name = self.recommended if law is None else law
        if name is None:
            raise FitError(f"these runs support no prediction: {self.reason}. See the findings.")
        if name not in self.methods:
            check_law(name)
            raise not_fitted(name, self.reasons_not_fitted[name], self.methods)
        return name

    def _level(self, level: float | None) -> float:
        level = self.options.level if level is None else level
        if not 0.0 < level < 1.0:
            raise ConfigError(f"level: got {level}, expected a number between 0 and 1.")
        return level

    def _spreads(self, law: str | None, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """A law's answer where one is asked for, else that of all laws together; held to what is possible."""
        answer = self.stack.alone if self._asks_for_one(law) else self.stack.together
        n, loss = answer(self._law_name(law), log_compute, level)
        # At least one parameter and one token.
        most = log_compute - float(np.median(self.flops.log_ratio))
        return n.bounded(0.0, np.maximum(most, 0.0)), loss.bounded(*self._loss_bounds())

    def _asks_for_one(self, law: str | None) -> bool:
        return law is not None or self.options.law is not None

    def _loss_bounds(self) -> tuple[float, float]:
        seen = np.log(self.runs.loss)
        return float(seen.min()) - LOSS_REACH, float(seen.max()) + LOSS_REACH


def _band(spread: Spread) -> Band:
    return np.exp(spread.value), np.exp(spread.low), np.exp(spread.high)
