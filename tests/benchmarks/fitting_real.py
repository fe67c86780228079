"""Answers on published runs: hidden budgets, published sizes far out, Farseer's runs, seeds, and measured minima."""

from dataclasses import dataclass

import numpy as np
from fitting_prior import print_priors
from real_sweeps import GROUPS, REPORT, SWEEPS, TUNE, anchors, make_case, published_optima, read_sweep, with_budgets
from tables_of_runs import read_published

from flops_fit.errors import FitError
from flops_fit.fitting import FitOptions, fit
from flops_fit.fitting.uncertainty.resampling import normal_quantile
from flops_fit.quantities import format_count

LAWS = ("default", "extended", "farseer", "windowed", "approach2", "approach3", "ratio20", "slope_half")
METHODS = ("windowed", "approach2", "approach3")
LEVEL = 0.9
FARSEER_CUTS = (1e20, 1e21, np.inf)
SEEDS = 10
SEED_BOOTSTRAPS = 300
SEED_SWEEPS = ("chinchilla", "llama_3/exp_loss", "rw/tuned/short/const/standard/val")
SEED_TARGETS = (10.0, 192.0)
"""Times the top budget; 192 is Chinchilla's 5.76e23."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One law's answer to one case; None where the law has no interval, or no loss."""

    sweep: str
    group: str
    law: str
    kept_compute: float
    reach: float
    error: float
    """ln predicted N_opt minus ln measured."""
    covered: bool | None = None
    log_width: float | None = None
    loss_error: float | None = None
    loss_covered: bool | None = None
    own_sd: float | None = None
    """Of ln N_opt by the law itself, without its model-form error; None for the default and the rules."""
    own_loss_sd: float | None = None


def score_case(job):
    """Scores of every law on one case; empty where too little of the sweep is left, or no law was fitted."""
    name, group, bootstraps = job
    case = make_case(name, group)
    if case is None:
        return []
    laws = fit(case.table, options=FitOptions(num_bootstraps=bootstraps))
    key = {"sweep": name, "group": group, "kept_compute": float(case.table.compute_budget.max()), "reach": case.reach}
    compute, target = np.array([case.target.compute]), case.target
    scores = []
    for law in LAWS[:-2]:
        try:
            n, loss = (
                band(compute, law=None if law == "default" else law) for band in (laws.n_opt_band, laws.loss_band)
            )
        except FitError:
            continue
        n, loss = np.log(n)[:, 0], np.log(loss)[:, 0]
        own = () if law == "default" else laws.methods[law].optimum(np.log(compute), LEVEL)
        own_sd, own_loss_sd = [float((s.high - s.low)[0]) / (2 * normal_quantile(LEVEL)) for s in own] or (None, None)
        scores.append(
            Score(
                **key,
                law=law,
                error=float(n[0] - target.log_n),
                covered=bool(n[1] <= target.log_n <= n[2]),
                log_width=float(n[2] - n[1]),
                loss_error=float(loss[0] - target.log_loss),
                loss_covered=bool(loss[1] <= target.log_loss <= loss[2]),
                own_sd=own_sd,
                own_loss_sd=own_loss_sd,
            )
        )
    known = [np.log(c.n_opt.value) - 0.5 * np.log(c.compute_budget) for c in laws.isoflop_curves if c.n_opt]
    if laws.recommended is not None:
        ratio20 = np.log(laws.predict(target.compute).baseline.num_params)
        scores.append(Score(**key, law="ratio20", error=float(ratio20 - target.log_n)))
    if known:
        line = np.mean(known) + 0.5 * np.log(target.compute)
        scores.append(Score(**key, law="slope_half", error=float(line - target.log_n)))
    return scores


def real(pool, bootstraps):
    """Prints the default's answer to each case, and a table of every law by half and group; returns all scores."""
    jobs = [(name, group, bootstraps) for name in SWEEPS for group in GROUPS]
    print("published sweeps, top budgets hidden: ln N_opt error of the default, x for an interval that misses it")
    scores, lines = [], {}
    for (name, group, _), found in zip(jobs, pool.imap(score_case, jobs), strict=True):
        scores += found
        default = next((s for s in found if s.law == "default"), None)
        text = "-" if default is None else f"{default.error:+.2f}{' ' if default.covered else 'x'}"
        lines.setdefault(name, []).append(f"{text:>7s}")
        if group == GROUPS[-1]:
            print(f"  {name:44s}{''.join(lines[name])}", flush=True)
    for half, names in (("tune", TUNE), ("report", REPORT), ("all", SWEEPS)):
        print(f"{half}: {len(names)} sweeps; error is |ln N_opt|, cov the share of 90 % intervals that hold it")
        print(
            f"  {'law':11s}{'hidden':>7s}{'n':>4s}{'reach':>6s}{'median':>8s}{'rms':>7s}{'worst':>7s}{'cov':>6s}",
            end="",
        )
        print(f"{'hi/lo':>7s} | loss {'median %':>9s}{'rms %':>7s}{'cov':>6s}")
        for law in LAWS:
            for group in GROUPS:
                print_scores([s for s in scores if s.law == law and s.group == group and s.sweep in names])
    print("prior on the model-form error s, by these sweeps")
    print_priors(scores)
    return scores


def print_scores(chosen):
    if not chosen:
        return
    error = np.abs([s.error for s in chosen])
    line = f"  {chosen[0].law:11s}{chosen[0].group:>7s}{len(chosen):4d}{np.median([s.reach for s in chosen]):6.2f}"
    line += f"{np.median(error):8.3f}{rms(error):7.3f}{error.max():7.2f}"
    if chosen[0].covered is not None:
        loss = 100 * np.abs([s.loss_error for s in chosen])
        line += f"{np.mean([s.covered for s in chosen]):6.2f}{np.exp(np.median([s.log_width for s in chosen])):7.2f}"
        line += f" | {np.median(loss):14.2f}{rms(loss):7.2f}{np.mean([s.loss_covered for s in chosen]):6.2f}"
    print(line)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def long_reach(bootstraps):
    """Published sizes far out: does the interval hold them, and does the first line say that methods differ?"""
    held, widths, misses = [], [], []
    for anchor in anchors():
        laws = fit(anchor.table, options=FitOptions(num_bootstraps=bootstraps))
        prediction = laws.predict(anchor.compute)
        low, high = prediction.num_params_interval
        values = {"D/N=20": prediction.baseline.num_params, laws.recommended: prediction.num_params}
        for law in (m for m in METHODS if m in laws.methods):
            values[law] = float(laws.n_opt_band(np.array([anchor.compute]), law=law)[0][0])
        held.append(low <= anchor.num_params <= high)
        widths.append(high / low)
        misses.append(abs(np.log(prediction.num_params / anchor.num_params)))
        published, value, ends = anchor.num_params, prediction.num_params, (low, high)
        print(
            f"  {anchor.name:36s}{anchor.compute / laws.max_compute:8.0f}x  published {format_count(published)}: "
            f"{format_count(value)} [{', '.join(map(format_count, ends))}] hi/lo {high / low:.1f} "
            f"{'holds' if held[-1] else 'MISSES'}"
        )
        spread = max(values.values()) / min(values.values())
        print(f"    methods {spread:.1f}x apart: {', '.join(f'{k} {format_count(v)}' for k, v in values.items())}")
        print(f"    first line: {prediction.trust.headline if prediction.trust else '-'}", flush=True)
    print(
        f"  holds {sum(held)} of {len(held)}, median hi/lo {np.median(widths):.1f}, "
        f"points within {np.exp(max(misses)):.1f}x, median {np.exp(np.median(misses)):.1f}x"
    )


def farseer(bootstraps):
    """Mean absolute error of the loss at Farseer's seven largest runs, and how many intervals hold it."""
    targets = read_published("farseer.csv", keep=lambda row: row["split"] == "target")
    for cut in FARSEER_CUTS:
        runs = read_published("farseer.csv", keep=lambda row, cut=cut: row["split"] == "fit" and float(row["C"]) <= cut)
        laws = fit(with_budgets(runs), options=FitOptions(num_bootstraps=bootstraps))
        for law in (None, "approach3", "extended", "farseer"):
            if law is not None and law not in laws.methods:
                continue
            found = laws.loss_at(targets.num_params, targets.num_tokens, law=law)
            name = law or f"default ({laws.recommended})"
            if found is None:
                print(f"  C <= {cut:7.3g} {len(runs):4d} runs {name:20s} has no L(N, D)")
                continue
            value, low, high = found
            error = 100 * np.log(value / targets.loss)
            inside = np.sum((low <= targets.loss) & (targets.loss <= high))
            print(
                f"  C <= {cut:7.3g} {len(runs):4d} runs {name:20s} mean abs {np.mean(np.abs(error)):5.2f} %, mean "
                f"{error.mean():+5.2f} %, worst {np.abs(error).max():5.2f} %, {inside} of {len(error)} in the interval",
                flush=True,
            )


def fit_seed(job):
    name, seed = job
    laws = fit(read_sweep(name), options=FitOptions(num_bootstraps=SEED_BOOTSTRAPS, seed=seed))
    value, low, high = laws.n_opt_band(laws.max_compute * np.array(SEED_TARGETS))
    return value, high / low


def seeds(pool):
    """How much the interval depends on the bootstrap seed."""
    for name in SEED_SWEEPS:
        found = np.array(pool.map(fit_seed, [(name, seed) for seed in range(SEEDS)]))
        for factor, value, width in zip(SEED_TARGETS, found[:, 0].T, found[:, 1].T, strict=True):
            print(
                f"  {name:36s}{factor:6.0f}x  hi/lo over {SEEDS} seeds {width.min():.3g} to {width.max():.3g}: ratio "
                f"{width.max() / width.min():.2f}, in logs {np.log(width.max()) / np.log(width.min()):.2f}; "
                f"values differ by {value.max() / value.min():.2f}x",
                flush=True,
            )


def minima(pool, bootstraps):
    """Do the intervals of the IsoFLOP curves' own minima hold the published N_opt?"""
    jobs = [(name, bootstraps) for name in SWEEPS if published_optima(name)]
    rows = [row for found in pool.imap(minima_of_sweep, jobs) for row in found]
    error, sd, inside = (np.array(column) for column in zip(*rows, strict=True))
    print(
        f"  {len(rows)} minima: {inside.mean():.2f} hold the published N_opt; ln error {error.mean():+.3f} on average, "
        f"rms {rms(error):.3f}, median own sd {np.median(sd):.3f}"
    )


def minima_of_sweep(job):
    name, bootstraps = job
    laws = fit(read_sweep(name), options=FitOptions(num_bootstraps=bootstraps, max_hidden_budgets=0))
    rows = []
    for curve in laws.isoflop_curves:
        published = next(
            (v for c, v in published_optima(name).items() if abs(np.log(c / curve.compute_budget)) < 0.01), None
        )
        if curve.n_opt is not None and published is not None:
            low, value, high = np.log([curve.n_opt.low, curve.n_opt.value, curve.n_opt.high])
            rows.append((value - published, (high - low) / 3.29, low <= published <= high))
    return rows
