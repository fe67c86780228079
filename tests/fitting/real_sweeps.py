"""Published IsoFLOP sweeps with their largest budgets hidden, and published answers far beyond a sweep."""

import csv
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from tables_of_runs import DATA, GEMSTONES, PORIAN, chinchilla_isoflop, gemstones, read_published

from flops_fit.imports.budgets import assign_budgets
from flops_fit.imports.runs import read_runs
from flops_fit.records import RunTable

TUNED = (
    "rw/tuned/long/const/kaplan/train",
    "rw/tuned/short/const/attention/train",
    "rw/tuned/short/const/standard/val",
)
OTHERS = ("llama_3/exp_loss", "marin_202603/nemotron/llama_2", "misfitting/fineweb_c4/transformer")
TUNE = (*TUNED, *OTHERS, *PORIAN[:2])
"""Settings may be chosen on these."""
REPORT = (*PORIAN[2:], "chinchilla", *(f"gemstones {condition}" for condition in GEMSTONES))
"""Figures are quoted from these: nothing is chosen on them."""
SWEEPS = (*TUNE, *REPORT)
MIN_BUDGETS, MIN_RUNS = 4, 12
"""A sweep cut to less than this is no case: three budgets leave nothing to backtest a law on."""
MIN_SIZES = 4
"""A parabola through three sizes knows no error."""
WINDOW = 4.0
"""A parabola takes sizes within this factor of the budget's best."""


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """The compute-optimal size of one budget, measured: the authors' own N where they published it."""

    compute: float
    log_n: float
    log_loss: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A sweep without its largest budgets, and the largest one's optimum."""

    sweep: str
    group: str
    """One of GROUPS."""
    table: RunTable
    target: Minimum

    @property
    def reach(self):
        """log10 of the target over the largest budget that is left."""
        return float(np.log10(self.target.compute / self.table.compute_budget.max()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchor:
    """A model size that the authors derived, or trained, far beyond their sweep."""

    name: str
    table: RunTable
    compute: float
    num_params: float
    """Published N."""


@cache
def read_sweep(name):
    """The runs of one published sweep, as the product reads them."""
    if name in PORIAN:
        return read_published("porian_rw_base.csv", name)
    if name == "chinchilla":
        return chinchilla_isoflop()
    if name.startswith("gemstones"):
        return gemstones(name.split()[1])
    return read_runs(DATA / "isoflop_sets.csv", condition=name)


def with_budgets(table):
    """Budgets as the product finds them where a file states none."""
    return replace(table, compute_budget=assign_budgets(table.compute)[0])


@cache
def published_optima(name):
    """C -> ln N_opt as Porian et al. 2024 state it; empty for sweeps of others."""
    with (DATA / "porian_rw_optima.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["condition"] == name and row["N_opt"]]
    return {float(r["C"]): float(np.log(float(r["N_opt"]))) for r in rows}


def minima_of(name):
    """Measured minima of a sweep's budgets, ascending in C; budgets without one are left out."""
    table, optima, found = read_sweep(name), published_optima(name), []
    for budget in np.unique(table.compute_budget):
        here = table.compute_budget == budget
        vertex = parabola(np.log(table.num_params[here]), table.loss[here])
        log_n = next((v for c, v in optima.items() if abs(np.log(c / budget)) < 0.01), vertex and vertex[0])
        if vertex is not None:
            found.append(Minimum(compute=float(budget), log_n=log_n, log_loss=vertex[1]))
    return found


def parabola(log_n, loss):
    """(ln N, ln loss) of the vertex of loss over ln N; None where it opens downwards or lies beyond the sizes."""
    near = np.abs(log_n - log_n[np.argmin(loss)]) <= np.log(WINDOW) * (1 + 1e-9)
    if len(np.unique(log_n[near])) < MIN_SIZES:
        return None
    c2, c1, c0 = np.polyfit(log_n[near] - log_n.mean(), loss[near], 2)
    if c2 <= 0:
        return None
    best = -c1 / (2 * c2) + log_n.mean()
    return (float(best), float(np.log(c0 - c1**2 / (4 * c2)))) if log_n.min() <= best <= log_n.max() else None


GROUPS = ("1", "2", "3", ">=1.0", ">=1.5", ">=2.0")
"""How many budgets with a measured minimum are hidden (and all above), or all within how many decades of the top."""


def make_case(name, group):
    """The case of one sweep and group; None where too little is left."""
    table, minima = read_sweep(name), minima_of(name)
    target = minima[-1]
    if group.startswith(">="):
        keep = table.compute_budget <= target.compute / 10.0 ** float(group[2:]) * (1 + 1e-6)
    elif len(minima) > int(group):
        keep = table.compute_budget < minima[-int(group)].compute * (1 - 1e-9)
    else:
        return None
    if keep.sum() < MIN_RUNS or len(np.unique(table.compute_budget[keep])) < MIN_BUDGETS:
        return None
    return Case(sweep=name, group=group, table=table.take(keep), target=target)


def anchors():
    """Six published answers 200 to 20,000 times beyond the sweeps they are predicted from.

    Chinchilla (Hoffmann et al. 2022): 70B trained, 73B by their approach for all points. Llama 3 (2024): 402B by
    their own fit. RefinedWeb (Porian et al. 2024): 76.9B [70, 86.4] from the tuned sweep of the standard count.
    """
    all_points = with_budgets(
        read_published("chinchilla_epoch.csv", keep=lambda row: row["excluded_by_source"] != "True")
    )
    answers = [
        ("chinchilla", read_sweep("chinchilla"), 5.76e23, 70e9),
        ("chinchilla, 240 points", all_points, 5.76e23, 73e9),
        ("llama 3", read_sweep("llama_3/exp_loss"), 3.8e25, 402e9),
        *((name, read_sweep(name), 5.88e23, 76.9e9) for name in TUNED),
    ]
    return [Anchor(name=n, table=t, compute=c, num_params=p) for n, t, c, p in answers]
