"""How often `compare_laws` says that conditions differ: where they don't, and where they do. Run by hand.

    python tests/benchmarks/comparison.py [--worlds 100]

A trial is two or three sweeps of five budgets with four sizes, a factor of 16 in compute, drawn from one law or from
two with noise of 0.5 % between runs; or twice the same simulated world of `fitting/worlds.py`, some of which no law of
this package describes. Where the truths are equal, at most one trial in ten may be said to differ.

100 trials each, 2026-11: two equal laws .00, with noise of 5 % .05; losses 2 % apart .85; exponents .50 and .64: 1.00,
by the exponent alone .70. Most of an interval at low noise is model-form error, which equal conditions share.
"""

# ruff: noqa: E402, numpy reads the number of threads when it is imported.
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "fitting")]

from sweep_designs import SMALL, draw_sweep
from tables_of_runs import isoflop_table
from worlds import draw_world

from flops_fit.fitting import ChinchillaLaw, FitOptions, fit
from flops_fit.fitting.comparison import compare_laws

NOISE = 0.005
LAW = ChinchillaLaw(E=0.03, A=0.03 * 3e4**0.35 / 0.35, B=0.03 * 3e6**0.35 / 0.35, alpha=0.35, beta=0.35)
STEEPER = ChinchillaLaw(E=0.03, A=0.03 * 3e4**0.25 / 0.25, B=0.03 * 3e6**0.45 / 0.45, alpha=0.25, beta=0.45)
BUDGETS = np.geomspace(1e11, 1.6e12, 5)
WORLDS = ("exact", "interaction", "curved", "short_run", "bend", "shared_noise")
OPTIONS = FitOptions(num_bootstraps=20)


def lower(share):
    """The law with all its losses lower by a share."""
    return replace(LAW, E=LAW.E * (1 - share), A=LAW.A * (1 - share), B=LAW.B * (1 - share))


CASES = {
    "equal, two": (LAW, LAW),
    "equal, three": (LAW, LAW, LAW),
    "1 % lower": (LAW, lower(0.01)),
    "2 % lower": (LAW, lower(0.02)),
    "5 % lower": (LAW, lower(0.05)),
    "exponent 0.50 and 0.64": (LAW, STEEPER),
}


def tables_of_laws(laws, seed, noise=NOISE):
    """A sweep of each law."""
    return [isoflop_table(law, BUDGETS, 4, reach=3, noise=noise, seed=[seed, i]) for i, law in enumerate(laws)]


def tables_of_world(name, seed):
    """Two sweeps of one world."""
    rng = np.random.default_rng(seed)
    world = draw_world(name, rng)
    return [draw_sweep(world, SMALL, rng, noise=NOISE) for _ in range(2)]


def measure(make_tables, trials):
    """Shares of trials that are said to differ, at all and by each quantity, and the median width of the intervals."""
    differ = by_loss = by_exponent = 0
    widths = []
    for seed in range(trials):
        fits = {f"c{i}": fit(table, options=OPTIONS) for i, table in enumerate(make_tables(seed))}
        found = compare_laws(fits, seed=seed)
        differ += bool(found.differing)
        by_loss += any(not d.loss.low <= 0 <= d.loss.high for d in found.differences)
        by_exponent += any(not d.a.low <= 0 <= d.a.high for d in found.differences)
        first = found.differences[0]
        widths.append((first.relative_loss.high - first.relative_loss.low, first.a.high - first.a.low))
    return differ / trials, by_loss / trials, by_exponent / trials, *np.median(widths, axis=0)


def main():
    """Prints a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=100, help="trials of each case")
    parser.add_argument("--cases", nargs="*", help="parts of the names of cases; all without")
    arguments = parser.parse_args()
    trials = arguments.worlds
    cases = {name: (lambda seed, laws=laws: tables_of_laws(laws, seed)) for name, laws in CASES.items()}
    cases["equal, noise 5 %"] = lambda seed: tables_of_laws((LAW, LAW), seed, noise=0.05)
    cases["20 % lower, noise 5 %"] = lambda seed: tables_of_laws((LAW, lower(0.2)), seed, noise=0.05)
    cases |= {f"equal, {name}": (lambda seed, name=name: tables_of_world(name, seed)) for name in WORLDS}
    print(f"{trials} trials of each case\n")
    print(f"{'case':28s} differ  by loss  by exponent  widths: loss, exponent   seconds")
    for name, make_tables in cases.items():
        if arguments.cases and not any(part in name for part in arguments.cases):
            continue
        started = time.perf_counter()
        differ, by_loss, by_exponent, loss_width, a_width = measure(make_tables, trials)
        seconds = time.perf_counter() - started
        shares = f"{differ:6.2f} {by_loss:8.2f} {by_exponent:12.2f}"
        print(f"{name:28s} {shares} {loss_width:13.1%} {a_width:9.2f} {seconds:9.0f}", flush=True)


if __name__ == "__main__":
    main()
