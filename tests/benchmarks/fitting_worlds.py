"""Coverage in simulated worlds, of which most lie outside the family of every law of this package."""

import numpy as np
from coverage_study import TARGETS, study_cell


def run_cell(job):
    name, design, seed, noise, bootstraps = job
    return study_cell(name, design, seed, noise=noise, bootstraps=bootstraps)


def coverage(pool, names, design, replicates, *, noise=0.003, bootstraps=60):
    """Prints and returns the cells of every world; one line a world."""
    print(f"{replicates} sweeps of each world, design {design}, noise {noise:g}; at {TARGETS} times the top budget:")
    print("  world           median |ln error| / bias / N_opt held / hi/lo / loss held", flush=True)
    jobs = [(name, design, seed, noise, bootstraps) for name in names for seed in range(replicates)]
    cells, waiting = {}, pool.imap(run_cell, jobs)
    for name in names:
        cells[name] = [next(waiting) for _ in range(replicates)]
        error, width = (np.array([c[key] for c in cells[name]]) for key in ("error", "width"))
        n, loss = (np.mean([c[key] for c in cells[name]], axis=0) for key in ("n", "loss"))
        parts = [
            f"{np.median(np.abs(error[:, i])):.2f}/{error[:, i].mean():+.2f}/{n[i]:.2f}/"
            f"{np.exp(np.median(width[:, i])):.2f}/{loss[i]:.2f}"
            for i in range(len(TARGETS))
        ]
        print(f"  {name:15s} {'   '.join(parts)}", flush=True)
    n, loss = (
        np.array([np.mean([c[key] for c in found], axis=0) for found in cells.values()]) for key in ("n", "loss")
    )
    print(f"  {'mean':15s} N_opt held {text(n.mean(axis=0))}, loss {text(loss.mean(axis=0))}")
    worst = [list(cells)[i] for i in n.argmin(axis=0)]
    print(f"  {'worst':15s} N_opt held {text(n.min(axis=0))} in {', '.join(worst)}; loss {text(loss.min(axis=0))}")
    return cells


def text(values):
    return " | ".join(f"{v:.2f}" for v in values)
