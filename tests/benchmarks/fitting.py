"""Is the fitting room fast, small, right and honest? Prints what CHANGELOG, docstrings and predictions quote.

python tests/benchmarks/fitting.py real        17 published sweeps, top budgets hidden: error, coverage, loss, prior
python tests/benchmarks/fitting.py anchors     six published model sizes 44 to 46,000 times beyond their sweeps
python tests/benchmarks/fitting.py farseer     loss at Farseer's seven largest runs
python tests/benchmarks/fitting.py seeds       how the interval's width depends on the bootstrap seed
python tests/benchmarks/fitting.py minima      intervals of measured minima against published ones
python tests/benchmarks/fitting.py worlds      simulated worlds, 10, 100, 1000 times beyond; --design square or ladder
python tests/benchmarks/fitting.py table       real and worlds; writes measured_coverage.json, which predict quotes
python tests/benchmarks/fitting.py speed       ratios in one process, on CPU time, one BLAS thread
python tests/benchmarks/fitting.py all         everything but the table
"""

# ruff: noqa: E402, numpy reads the number of threads when it is imported.
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import multiprocessing
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "tests" / "fitting"), str(REPOSITORY), str(Path(__file__).parent)]

import fitting_real
import fitting_speed
from coverage_study import TARGETS
from fitting_worlds import coverage
from sweep_designs import DESIGNS
from worlds import ALL_WORLDS

PARTS = ("real", "anchors", "farseer", "seeds", "minima", "worlds", "speed")
TABLE = REPOSITORY / "flops_fit" / "fitting" / "measured_coverage.json"
QUOTED_TARGETS = (10.0, 100.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*PARTS, "table", "all", "memory"))
    parser.add_argument("--replicates", type=int, default=40, help="sweeps of each world")
    parser.add_argument("--bootstraps", type=int, default=60, help="resamples of each fit")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worlds", nargs="+", choices=ALL_WORLDS, default=ALL_WORLDS, metavar="NAME")
    parser.add_argument("--design", choices=tuple(DESIGNS), default="square")
    parser.add_argument("--noise", type=float, default=0.003, help="sd of log loss in the worlds")
    parser.add_argument("--starts", type=int, default=125, help="of the 3125 L-BFGS starts; time is scaled up")
    parser.add_argument("--resamples", type=int, default=60, help="of the BFGS bootstrap; time is scaled up")
    options = parser.parse_args()
    if options.what == "memory":
        fitting_speed.own_bootstrap(fitting_speed.epoch_points(), 1000)
        return
    chosen = {"all": PARTS, "table": ("real", "worlds")}.get(options.what, (options.what,))
    if "speed" in chosen:  # First of all: it measures this process.
        fitting_speed.speed(options.starts, options.resamples)
    with multiprocessing.Pool(options.processes) as pool:
        found = {part: run_part(part, pool, options) for part in chosen if part != "speed"}
    if options.what == "table":
        table = coverage_table(found["real"], found["worlds"])
        TABLE.write_text(json.dumps(table, indent=2) + "\n")
        print(f"wrote {TABLE}\n{json.dumps(table)}")


def run_part(part, pool, options):
    print(f"== {part}", flush=True)
    if part == "real":
        return fitting_real.real(pool, options.bootstraps)
    if part == "worlds":
        return coverage(
            pool,
            options.worlds,
            options.design,
            options.replicates,
            noise=options.noise,
            bootstraps=options.bootstraps,
        )
    if part == "seeds":
        return fitting_real.seeds(pool)
    if part == "minima":
        return fitting_real.minima(pool, options.bootstraps)
    return {"anchors": fitting_real.long_reach, "farseer": fitting_real.farseer}[part](options.bootstraps)


def coverage_table(scores, cells):
    """What a prediction says about measured coverage: each cut of a published sweep once, then the worlds."""
    default = {(s.sweep, s.kept_compute): s for s in scores if s.law == "default"}.values()
    quoted = [TARGETS.index(factor) for factor in QUOTED_TARGETS]
    n, loss = (
        {name: np.array([c[key][quoted] for c in found]) for name, found in cells.items()} for key in ("n", "loss")
    )
    worst = min(n, key=lambda name: n[name].mean(axis=0).min())
    return {
        "real": {
            "cases": len(default),
            "n_opt": share([s.covered for s in default]),
            "loss": share([s.loss_covered for s in default]),
            "reach_max": round(10 ** max(s.reach for s in default)),
        },
        "worlds": {
            "count": len(cells),
            "sweeps": sum(len(found) for found in cells.values()),
            "n_opt_mean": share([v.mean() for v in n.values()]),
            "n_opt_worst": share(n[worst].mean(axis=0).min()),
            "worst_world": worst,
            "loss_mean": share([v.mean() for v in loss.values()]),
            "reach": [round(factor) for factor in QUOTED_TARGETS],
        },
    }


def share(values):
    return round(float(np.mean(values)), 3)


if __name__ == "__main__":
    main()
