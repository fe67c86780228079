"""Predictions of the extended law, with the statistical and the model-form part of each interval.

The answer is the mean over the priors of `prior.py`, each with its share of the evidence, and its variance
is theirs plus the spread between them. The optimum is solved on the user's FLOPs; its standard error follows from
the posterior covariance by the delta method and the implicit-function theorem, its interval from Student's t. The
statistical part holds the shape (k, c1, c2, h1, h2) fixed; the model-form part is what freeing it adds.

Runs far above their budget's best enter only where they agree with the others: the law is first fitted to runs
within 10% of their budget's best, and if it misses the far ones by more than noise explains they stay out.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from flops_fit.fitting.flops_function import FlopsFunction
from flops_fit.fitting.inputs.log_runs import LogRuns, near_optimum, take_log_runs
from flops_fit.fitting.methods.extended.fit import ExtendedFits, extended_bounds, fit_extended
from flops_fit.fitting.methods.extended.form import extended_jacobian, extended_log_loss, log_loss_slope
from flops_fit.fitting.methods.extended.prior import shape_priors
from flops_fit.fitting.methods.result import LawFit, refused_law
from flops_fit.fitting.options import FitOptions
from flops_fit.fitting.uncertainty.resampling import group_correlation, t_quantile
from flops_fit.fitting.uncertainty.spread import Spread
from flops_fit.records import FloatArray, Interval

MAX_MISFIT = 1.5
"""Noise alone gives 1; far runs that miss by more than this follow another law."""
MIN_RUNS = 8
"""The five Chinchilla parameters and three to estimate the noise; priors constrain the others."""
REACH = 12.0
"""The optimum is looked for this many e-folds of N around the middle of the runs."""
MIN_SHARE = 1e-3
"""Priors with a smaller share of the evidence than this are dropped."""
NAMES = ("E", "log_A_at_centre", "log_B_at_centre", "alpha", "beta", "k", "c1", "c2", "h1", "h2")


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighed:
    """The extended law under every prior that the runs allow, and the share of each."""

    fits: ExtendedFits
    """One row for each prior."""
    share: FloatArray
    """Of the evidence, shape (R,), sums to 1."""

    def average(self, rows: FloatArray) -> FloatArray:
        """Mean over priors of rows (R, ...)."""
        return np.asarray(np.tensordot(self.share, rows, axes=1))

    def standard_errors(self, value: FloatArray, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Total, and with the shape held, standard error (m,) of values (R, m) with gradients (R, m, 10)."""
        fits = self.fits
        total, held = (
            np.maximum(np.einsum("rmi,rij,rmj->rm", gradient, c, gradient), 0.0)
            for c in (fits.covariance, fits.covariance_shape_held)
        )
        between = (value - self.average(value)) ** 2
        both = self.average(total + between)
        return np.sqrt(both), np.sqrt(np.minimum(self.average(held), both))

    def log_loss(self, log_n: FloatArray, log_d: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log: ln loss (R, m) and its gradient (R, m, 10) at sizes and tokens of shape (m,) or (R, m)."""
        x, y = log_n - self.fits.centre_n[:, None], log_d - self.fits.centre_d[:, None]
        parameters = self.fits.parameters
        return extended_log_loss(parameters, x, y), extended_jacobian(parameters, x, y)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtendedMethod:
    """One fitted extended law."""

    law: LawFit
    weighed: Weighed
    log_runs: LogRuns

    def optimum(self, log_compute: FloatArray, level: float) -> tuple[Spread, Spread]:
        """Log: ln N_opt and ln loss there, at ln C of shape (m,)."""
        log_c = np.asarray(log_compute, dtype=np.float64)
        flops, fits = self.log_runs.flops, self.weighed.fits
        log_n = extended_optimum(fits, flops, log_c)
        sensitivity = _optimum_sensitivity(fits, flops, log_c, log_n)
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
    if len(log_runs) < MIN_RUNS:
        return refused_law("extended", f"{len(log_runs)} runs; at least {MIN_RUNS} are needed.", len(log_runs))
    for name, column in (("N", log_runs.log_n), ("D", log_runs.log_d)):
        if np.ptp(column) < 1e-3:
            return refused_law(
                "extended", f"{name} is the same in all runs, so its term cannot be separated from E.", len(log_runs)
            )
    used, weighed = log_runs, weigh_priors(log_runs, options)
    near = near_optimum(log_runs, options.near_optimum)
    if not near.all() and near.sum() >= max(MIN_RUNS, len(log_runs) // 4):
        nearby = _weighted_by_compute(take_log_runs(log_runs, near), options)
        local = weigh_priors(nearby, options)
        if _misfit(local, log_runs, ~near) > MAX_MISFIT:
            used, weighed = nearby, local
    weighed = _inflated(weighed, used)
    return ExtendedMethod(law=_law(weighed, used, options), weighed=weighed, log_runs=used)


def weigh_priors(log_runs: LogRuns, options: FitOptions) -> Weighed:
    """Fits the law under every prior and weighs them by their evidence."""
    mean, prior, log_probability = shape_priors(options)
    once = (log_runs.log_n, log_runs.log_d, log_runs.log_loss, log_runs.weight)
    log_n, log_d, log_loss, weight = (np.broadcast_to(c, (len(prior), len(c))) for c in once)
    fits = fit_extended(log_n, log_d, log_loss, weight, mean, prior)
    log_share = fits.log_evidence + log_probability
    share = np.exp(log_share - log_share.max())
    share /= share.sum()
    kept = np.flatnonzero(share >= MIN_SHARE)
    rows = {f.name: getattr(fits, f.name)[kept] for f in fields(fits)}
    return Weighed(fits=ExtendedFits(**rows), share=share[kept] / share[kept].sum())


def _weighted_by_compute(log_runs: LogRuns, options: FitOptions) -> LogRuns:
    """Weights for where no one law fits all runs: those near the top budget are the most relevant to larger ones."""
    power = np.exp(options.compute_weight * (log_runs.log_c - log_runs.log_c.mean()))
    weight = log_runs.weight * power
    return replace(log_runs, weight=weight * (log_runs.weight.sum() / weight.sum()))


def _misfit(weighed: Weighed, log_runs: LogRuns, far: NDArray[np.bool_]) -> float:
    """Root mean square of the far runs' residuals in units of their prediction's standard error."""
    value, gradient = weighed.log_loss(log_runs.log_n[far], log_runs.log_d[far])
    total, _ = weighed.standard_errors(value, gradient)
    residual = log_runs.log_loss[far] - weighed.average(value)
    noise = weighed.average(weighed.fits.sigma**2)
    return float(np.sqrt(np.mean(residual**2 / (total**2 + noise))))


def extended_optimum(fits: ExtendedFits, flops: FlopsFunction, log_compute: FloatArray) -> FloatArray:
    """Log: ln N_opt of every row, shape (R, m): where the slope of the loss along the budget changes sign.

    Curvature (c1, c2) can make the law rise again far outside the runs; of several sign changes the one
    nearest the middle of the runs is taken, on a grid refined by bisection.
    """
    log_c = np.asarray(log_compute, dtype=np.float64)
    rows, count = len(fits.parameters), len(log_c)
    grid = np.linspace(-REACH, REACH, 97)
    middle = 0.5 * (log_c - np.median(flops.log_ratio)) + 0.5 * (fits.centre_n[:, None] - fits.centre_d[:, None])
    low, high = np.empty((rows, count)), np.empty((rows, count))
    for j in range(count):
        log_n = middle[:, [j]] + grid
        slope = _slope_on_budget(fits, flops, log_c[j], log_n)
        rising = (slope[:, :-1] < 0) & (slope[:, 1:] >= 0)
        distance = np.where(rising, np.abs(grid[:-1]), np.inf)
        cell = np.where(rising.any(1), np.argmin(distance, axis=1), np.argmin(np.abs(slope[:, :-1]), axis=1))
        low[:, j] = log_n[np.arange(rows), cell]
        high[:, j] = low[:, j] + (grid[1] - grid[0])
    for _ in range(45):
        centre = 0.5 * (low + high)
        falling = _slope_on_budget(fits, flops, log_c, centre) < 0
        low, high = np.where(falling, centre, low), np.where(falling, high, centre)
    return 0.5 * (low + high)


def _slope_on_budget(fits: ExtendedFits, flops: FlopsFunction, log_c: FloatArray, log_n: FloatArray) -> FloatArray:
    y = flops.log_tokens(log_c, log_n) - fits.centre_d[:, None]
    return log_loss_slope(fits.parameters, log_n - fits.centre_n[:, None], y, flops.slope(log_n))


def _optimum_sensitivity(fits: ExtendedFits, flops: FlopsFunction, log_c: FloatArray, log_n: FloatArray) -> FloatArray:
    """Sensitivity d ln N_opt / d parameters = -(d slope / d p) / (d slope / d ln N), shape (R, m, 10)."""
    step = 1e-4

    def slope(moved: ExtendedFits, position: FloatArray) -> FloatArray:
        return _slope_on_budget(moved, flops, log_c, position)

    curvature = (slope(fits, log_n + step) - slope(fits, log_n - step)) / (2 * step)
    out = np.empty((*log_n.shape, fits.parameters.shape[1]))
    for i in range(out.shape[-1]):
        shift = np.zeros_like(fits.parameters)
        shift[:, i] = step
        up, down = (replace(fits, parameters=fits.parameters + s * shift) for s in (1, -1))
        out[..., i] = -(slope(up, log_n) - slope(down, log_n)) / (2 * step)
    return out / np.maximum(curvature, 1e-9)[..., None]


def _inflated(weighed: Weighed, log_runs: LogRuns) -> Weighed:
    """Widens the covariance where runs share trunks: the design effect 1 + (runs per group - 1) rho."""
    if not log_runs.is_clustered:
        return weighed
    residual = log_runs.log_loss - weighed.average(weighed.log_loss(log_runs.log_n, log_runs.log_d)[0])
    sizes = np.bincount(log_runs.group)
    mean_size = float((sizes**2).sum() / sizes.sum())
    effect = 1 + (mean_size - 1) * group_correlation(residual, log_runs.group)
    fits = weighed.fits
    wider = replace(
        fits,
        covariance=fits.covariance * effect,
        covariance_shape_held=fits.covariance_shape_held * effect,
    )
    return replace(weighed, fits=wider)


def _law(weighed: Weighed, log_runs: LogRuns, options: FitOptions) -> LawFit:
    fits = weighed.fits
    rows = fits.parameters
    each = np.broadcast_to(np.eye(rows.shape[1]), (len(rows), *fits.covariance.shape[1:]))
    p, (sd, _) = weighed.average(rows), weighed.standard_errors(rows, each)
    dof, sigma = (float(weighed.average(column)) for column in (fits.dof, fits.sigma))
    quantile = t_quantile(options.level, dof)

    def positive(log_value: float, log_sd: float) -> Interval:
        low, high = (float(np.exp(log_value + s * quantile * log_sd)) for s in (-1, 1))
        return Interval(value=float(np.exp(log_value)), low=low, high=high, level=options.level)

    def signed(value: float, spread: float) -> Interval:
        low, high = float(value - quantile * spread), float(value + quantile * spread)
        return Interval(value=float(value), low=low, high=high, level=options.level)

    parameters = {"E": positive(p[0], sd[0]), "alpha": positive(p[3], sd[3]), "beta": positive(p[4], sd[4])}
    parameters |= {"log_A_at_centre": signed(p[1], sd[1]), "log_B_at_centre": signed(p[2], sd[2])}
    parameters |= {"k": positive(p[5], sd[5]), "c1": signed(p[6], sd[6]), "c2": signed(p[7], sd[7])}
    parameters |= {"h1": signed(p[8], sd[8]), "h2": signed(p[9], sd[9])}
    parameters |= {
        "centre_N": positive(float(fits.centre_n[0]), 0.0),
        "centre_D": positive(float(fits.centre_d[0]), 0.0),
    }
    log_c = log_runs.log_c_middle + np.array([-0.5, 0.5])
    log_n = extended_optimum(fits, log_runs.flops, log_c)
    sensitivity = _optimum_sensitivity(fits, log_runs.flops, log_c, log_n)
    rise, slope = log_n[:, 1:] - log_n[:, :1], sensitivity[:, 1:] - sensitivity[:, :1]
    a, a_sd = float(weighed.average(rise)[0]), float(weighed.standard_errors(rise, slope)[0][0])
    cost_slope = float(log_runs.flops.slope(np.array(weighed.average(log_n).mean())))
    widths = "1 prior" if len(rows) == 1 else f"{len(rows)} priors weighed by evidence"
    reason = f"posterior mean over {widths}; sd of log loss {sigma:.4f} on {dof:.1f} degrees of freedom"
    held = _at_bounds(weighed, log_runs)
    return LawFit(
        name="extended",
        outcome="at_bound" if held else "converged" if weighed.average(fits.converged) > 0.9 else "not_converged",
        reason=f"at the bound of its range: {', '.join(held)}; {reason}" if held else reason,
        parameters=parameters,
        a=signed(a, a_sd),
        b=signed(1 - a * cost_slope, a_sd * cost_slope),
        num_runs=len(log_runs),
        objective=None,
    )


def _at_bounds(weighed: Weighed, log_runs: LogRuns) -> list[str]:
    """Names the parameters that most of the evidence holds at the end of their range."""
    rows = weighed.fits.parameters
    low, high = extended_bounds(np.full(len(rows), log_runs.log_loss.min()))
    share = weighed.average(((rows <= low + 1e-9) | (rows >= high - 1e-9)).astype(np.float64))
    return [name for name, held in zip(NAMES, share, strict=True) if held > 0.5]
