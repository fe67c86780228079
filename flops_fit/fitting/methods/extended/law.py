"""Predictions of the extended law, with the statistical and the model-form part of each interval.

The answer is the mean over the priors of `prior.py`, each with its share of the evidence, and its variance
is theirs plus the spread between them. The optimum is solved on the user's FLOPs; its standard error follows from
the posterior covariance by the delta method and the implicit-function theorem, its interval from Student's t. The
statistical part holds the shape (k, h and the walks) fixed; the model-form part is what freeing it adds.

Runs far above their budget's best enter only where they agree with the others: the law is first fitted to runs
within a few percent of their budget's best, and if it misses the far ones by more than noise explains they stay out.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.inputs.log_runs import LogRuns, take_log_runs
from flops_fit.fitting.methods.approach2 import near_minima
from flops_fit.fitting.methods.extended.fit import ExtendedFits, Problem, bounds, fit_extended
from flops_fit.fitting.methods.extended.form import NUM_PLAIN, Form
from flops_fit.fitting.methods.extended.prior import shape_priors
from flops_fit.fitting.methods.extended.walk import OUTSIDE, make_walk
from flops_fit.fitting.methods.optimum import optimum_on_budgets
from flops_fit.fitting.methods.result import LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import design_effect, t_quantile
from flops_fit.fitting.uncertainty.spread import Spread, exp_interval
from flops_fit.records import FloatArray, Interval

MAX_MISFIT = 2.0
"""Noise alone gives 1; far runs that miss by more than this follow another law. At 1.5 the cut fired by chance."""
MIN_RUNS = 8
"""The five Chinchilla parameters and three to estimate the noise; priors constrain the others."""
OUTLYING = 5.0
"""An optimum of the middle budget this many e-folds beyond all sizes is none."""
MIN_SHARE = 1e-3
"""Priors with a smaller share of the evidence than this are dropped."""
PLAIN_NAMES = ("E", "log_A_at_centre", "log_B_at_centre", "alpha", "beta", "k", "h")
FITTED_AS_LOGS = ("E", "alpha", "beta", "k", "centre_N", "centre_D")


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighed:
    """The extended law under every prior that the runs allow, and the share of each.

    ``form`` and the rows hold the knots outside the runs too.
    """

    form: Form
    fits: ExtendedFits
    """One row for each prior."""
    share: FloatArray
    """Of the evidence, shape (R,), sums to 1."""
    centre: tuple[float, float]
    """Of ln N and ln D."""

    def average(self, rows: FloatArray) -> FloatArray:
        """Mean over priors of rows (R, ...)."""
        return np.asarray(np.tensordot(self.share, rows, axes=1))

    def covariance(self, value: FloatArray, gradient: FloatArray) -> FloatArray:
        """Covariance (m, m) of values (R, m) with gradients (R, m, p), the spread between priors included."""
        between = value - self.average(value)
        each = gradient @ self.fits.covariance @ gradient.transpose(0, 2, 1)
        return self.average(each + between[:, :, None] * between[:, None, :])

    def standard_errors(self, value: FloatArray, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Total, and with the shape held, standard error (m,) of values (R, m) with gradients (R, m, p)."""
        total, held = (
            np.maximum(np.einsum("rmi,rij,rmj->rm", gradient, c, gradient, optimize=True), 0.0)
            for c in (self.fits.covariance, self.fits.covariance_shape_held)
        )
        both = self.average(total + (value - self.average(value)) ** 2)
        return np.sqrt(both), np.sqrt(np.minimum(self.average(held), both))

    def log_loss(self, log_n: FloatArray, log_d: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log: ln loss (R, m) and its gradient (R, m, p) at sizes and tokens of shape (m,) or (R, m)."""
        return self.form.log_loss(self.fits.rows, self.form.basis(log_n - self.centre[0], log_d - self.centre[1]))

    def balance(self, flops: FlopsFunction, log_c: FloatArray, log_n: FloatArray) -> FloatArray:
        """Balance along budgets: `Form.balance` at ln C and ln N that broadcast to (R, m)."""
        return self.form.balance(self.fits.rows, *self._centred(flops, log_c, log_n), flops.slope(log_n))

    def optimum(self, flops: FlopsFunction, log_compute: FloatArray) -> FloatArray:
        """Log: ln N_opt of every row, shape (R, m): where the balance along the budget changes sign."""

        def larger_pays(log_c: FloatArray, log_n: FloatArray) -> NDArray[np.bool_]:
            return self.balance(flops, log_c, log_n) > 0

        return optimum_on_budgets(larger_pays, self.centre, flops, log_compute)

    def sensitivity(self, flops: FlopsFunction, log_c: FloatArray, log_n: FloatArray) -> FloatArray:
        """Sensitivity d ln N_opt / d parameters = -(d balance / d p) / (d balance / d ln N), shape (R, m, p)."""
        step = 0.05
        fall = self.balance(flops, log_c, log_n - step) - self.balance(flops, log_c, log_n + step)
        gradient = self.form.balance_gradient(self.fits.rows, *self._centred(flops, log_c, log_n))
        return gradient / np.maximum(fall / (2 * step), 1e-3)[..., None]

    def _centred(self, flops: FlopsFunction, log_c: FloatArray, log_n: FloatArray) -> tuple[FloatArray, FloatArray]:
        return log_n - self.centre[0], flops.log_tokens(log_c, log_n) - self.centre[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtendedMethod:
    """One fitted extended law."""

    law: LawFit
    weighed: Weighed
    log_runs: LogRuns

    def optimum(self, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """Log: ln N_opt and ln loss there, at ln C of shape (m,)."""
        log_c, flops = np.asarray(log_compute, dtype=np.float64), self.log_runs.flops
        log_n = self.weighed.optimum(flops, log_c)
        sensitivity = self.weighed.sensitivity(flops, log_c, log_n)
        expected = self.weighed.log_loss(log_n, flops.log_tokens(log_c, log_n))
        return self._spread(log_n, sensitivity, level), self._spread(*expected, level)

    def log_loss_at(self, log_n: FloatArray, log_d: FloatArray, level: float) -> Spread | None:
        """Log: ln loss at any (N, D), shape (m,)."""
        return self._spread(*self.weighed.log_loss(log_n, log_d), level)

    def _spread(self, value: FloatArray, gradient: FloatArray, level: float) -> Spread:
        total, statistical = self.weighed.standard_errors(value, gradient)
        quantile = t_quantile(level, float(self.weighed.average(self.weighed.fits.dof)))
        form = np.sqrt(np.maximum(total**2 - statistical**2, 0.0))
        half = quantile * statistical
        return Spread(value=self.weighed.average(value), down=half, up=half, form=quantile * form)


def fit_extended_law(log_runs: LogRuns, options: FitOptions) -> ExtendedMethod | LawFit:
    """Fits the extended law to the runs that one smooth law can hold; refused where there are too few runs."""
    found = weigh_nearby(log_runs, options)
    if isinstance(found, LawFit):
        return found
    weighed, used = found
    return ExtendedMethod(law=_law(weighed, used, options), weighed=weighed, log_runs=used)


def weigh_nearby(log_runs: LogRuns, options: FitOptions) -> tuple[Weighed, LogRuns] | LawFit:
    """The law under every prior on the runs that it can hold, and those runs; a refused law where they are too few."""
    if len(log_runs) < MIN_RUNS:
        return refused_law("extended", f"{len(log_runs)} runs; at least {MIN_RUNS} are needed.", len(log_runs))
    for name, column in (("N", log_runs.log_n), ("D", log_runs.log_d)):
        if np.ptp(column) < 1e-3:
            reason = f"{name} is the same in all runs, so its term cannot be separated from E."
            return refused_law("extended", reason, len(log_runs))
    near = near_minima(log_runs, options)
    if not near.all():
        nearby = take_log_runs(log_runs, near)
        # Where no one law fits all runs, those near the top budget are the most relevant to larger ones.
        local = weigh_priors(nearby, options, options.compute_weight)
        if _misfit(local, log_runs, ~near) > MAX_MISFIT:
            return _inflated(local, nearby), nearby
    return _inflated(weigh_priors(log_runs, options), log_runs), log_runs


def weigh_priors(log_runs: LogRuns, options: FitOptions, compute_weight: float = 0.0) -> Weighed:
    """Fits the law under every prior and weighs them by their evidence; runs count as C to ``compute_weight``."""
    power, total = np.exp(compute_weight * (log_runs.log_c - log_runs.log_c.mean())), log_runs.weight.sum()
    power *= total / (power @ log_runs.weight)
    centre = float(log_runs.weight @ log_runs.log_n / total), float(log_runs.weight @ log_runs.log_d / total)
    x, y = log_runs.log_n - centre[0], log_runs.log_d - centre[1]
    walk_n, walk_d = make_walk(x), make_walk(y)
    priors = shape_priors(options, NUM_PLAIN + walk_n.root.shape[1] + walk_d.root.shape[1])
    form = Form(walk_n=walk_n, walk_d=walk_d, tau=priors.tau)
    problem = Problem(
        form=form,
        basis=form.basis(x, y),
        x=x,
        y=y,
        log_loss=log_runs.log_loss,
        weights=log_runs.weight * power,
        relevance=power,
    )
    fits = fit_extended(problem, priors)
    log_share = fits.log_evidence + priors.log_probability
    share = np.exp(log_share - log_share.max())
    kept = np.flatnonzero(share >= MIN_SHARE * share.sum())
    fits = ExtendedFits(**{f.name: getattr(fits, f.name)[kept] for f in fields(fits)})
    wide = Form(walk_n=make_walk(x, outside=OUTSIDE), walk_d=make_walk(y, outside=OUTSIDE), tau=priors.tau[kept])
    share = share[kept] / share[kept].sum()
    return Weighed(form=wide, fits=_with_outer_knots(fits, form, wide), share=share, centre=centre)


def _with_outer_knots(fits: ExtendedFits, form: Form, wide: Form) -> ExtendedFits:
    """Adds the coefficients outside the runs: their mode is 0, their variance 1, and nothing correlates with them."""
    middle, wide_middle = (NUM_PLAIN + f.walk_n.root.shape[1] for f in (form, wide))
    held = np.r_[0:middle, wide_middle : wide_middle + form.num_parameters - middle]
    rows = np.zeros((len(fits.rows), wide.num_parameters))
    rows[:, held] = fits.rows
    covariance = np.repeat(np.eye(wide.num_parameters)[None], len(rows), axis=0)
    shape_held = np.zeros_like(covariance)
    index = np.ix_(range(len(rows)), held, held)
    covariance[index], shape_held[index] = fits.covariance, fits.covariance_shape_held
    return replace(fits, rows=rows, covariance=covariance, covariance_shape_held=shape_held)


def _misfit(weighed: Weighed, log_runs: LogRuns, far: NDArray[np.bool_]) -> float:
    """Root mean square of the far runs' residuals in units of their prediction's standard error."""
    value, gradient = weighed.log_loss(log_runs.log_n[far], log_runs.log_d[far])
    total, _ = weighed.standard_errors(value, gradient)
    residual = log_runs.log_loss[far] - weighed.average(value)
    noise = weighed.average(weighed.fits.sigma**2) * log_runs.relative_sd[far] ** 2
    return float(np.sqrt(np.mean(residual**2 / (total**2 + noise))))


def _inflated(weighed: Weighed, log_runs: LogRuns) -> Weighed:
    """Widens the covariance where runs share trunks."""
    residual = log_runs.log_loss - weighed.average(weighed.log_loss(log_runs.log_n, log_runs.log_d)[0])
    effect, fits = design_effect(residual, log_runs.group), weighed.fits
    covariance, shape_held = fits.covariance * effect, fits.covariance_shape_held * effect
    return replace(weighed, fits=replace(fits, covariance=covariance, covariance_shape_held=shape_held))


def _law(weighed: Weighed, log_runs: LogRuns, options: FitOptions) -> LawFit:
    fits = weighed.fits
    rows = fits.rows
    each = np.repeat(np.eye(rows.shape[1])[None, :NUM_PLAIN], len(rows), axis=0)
    p, (sd, _) = weighed.average(rows), weighed.standard_errors(rows[:, :NUM_PLAIN], each)
    dof, sigma = (float(weighed.average(column)) for column in (fits.dof, fits.sigma))
    quantile = t_quantile(options.level, dof)

    def interval(value: float, spread: float) -> Interval:
        low, high = float(value - quantile * spread), float(value + quantile * spread)
        return Interval(value=float(value), low=low, high=high, level=options.level)

    parameters = {name: interval(p[i], sd[i]) for i, name in enumerate(PLAIN_NAMES)}
    parameters |= {f"centre_{name}": interval(weighed.centre[i], 0.0) for i, name in enumerate("ND")}
    parameters |= {name: exp_interval(parameters[name]) for name in FITTED_AS_LOGS}
    log_c = log_runs.log_c_middle + np.array([-0.5, 0.5])
    log_n = weighed.optimum(log_runs.flops, log_c)
    sensitivity = weighed.sensitivity(log_runs.flops, log_c, log_n)
    rise, slope = log_n[:, 1:] - log_n[:, :1], sensitivity[:, 1:] - sensitivity[:, :1]
    a, a_sd = float(weighed.average(rise)[0]), float(weighed.standard_errors(rise, slope)[0][0])
    optimum = float(weighed.average(log_n).mean())
    if not log_runs.log_n.min() - OUTLYING < optimum < log_runs.log_n.max() + OUTLYING:
        a_sd = max(a_sd, 1.0)  # One of the two terms is lost in the noise, and the slope of its remains means nothing.
    cost_slope = float(log_runs.flops.slope(np.array(optimum)))
    widths = "1 prior" if len(rows) == 1 else f"{len(rows)} priors weighed by evidence"
    reason = f"posterior mean over {widths}; sd of log loss {sigma:.4f} on {dof:.1f} degrees of freedom"
    held = _at_bounds(weighed, log_runs)
    return LawFit(
        name="extended",
        outcome="at_bound" if held else "converged" if weighed.average(fits.converged) > 0.9 else "not_converged",
        reason=f"at the bound of its range: {', '.join(held)}; {reason}" if held else reason,
        parameters=parameters,
        a=interval(a, a_sd),
        b=interval(1 - a * cost_slope, a_sd * cost_slope),
        num_runs=len(log_runs),
    )


def _at_bounds(weighed: Weighed, log_runs: LogRuns) -> list[str]:
    """Names the parameters that most of the evidence holds at the end of their range."""
    rows = weighed.fits.rows[:, :NUM_PLAIN]
    low, high = (bound[:NUM_PLAIN] for bound in bounds(float(log_runs.log_loss.min()), NUM_PLAIN))
    share = weighed.average(((rows <= low + 1e-9) | (rows >= high - 1e-9)).astype(np.float64))
    return [name for name, held in zip(PLAIN_NAMES, share, strict=True) if held > 0.5]
