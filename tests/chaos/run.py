"""Long form of the fault injection: `make chaos`, or `python tests/chaos/run.py [--only STAGE] [--kills N] ...`.

Prints its seed and its figures and writes them to a JSON file; exits 1 where something was lost, duplicated or altered.
"""

import argparse
import dataclasses
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broken import MECHANISMS
from crash_points import try_all
from history import MUST_BE_ZERO
from race import race
from storm import Storm, run_storms

REPO = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")
"""Kills and stops do not test the disk, and there a sync takes no time."""


def kills(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """F1: workers killed with SIGKILL at random."""
    storm = Storm(kills=options.kills, workers=6, runs=24, steps=40, pause_seconds=0.01)
    return run_storms(_broken(storm, options), seed=options.seed, folder=folder)


def stops(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """F4: workers stopped for longer than their lease, who then go on as if nothing had been."""
    storm = Storm(stops=options.stops, workers=6, runs=8, steps=80, lease_seconds=0.2, pause_seconds=0.15)
    return run_storms(_broken(storm, options), seed=options.seed, folder=folder)


def clocks(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """F6: each worker's wall clock is a day off, and jumps."""
    storm = Storm(wrong_clocks=True, runs=4, steps=50, lease_seconds=0.5, step_seconds=0.02)
    return run_storms(_broken(storm, options), seed=options.seed, folder=folder)


def claims(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """F5: eight processes race for each claim."""
    figures = race(folder=folder, processes=8, runs=50, rounds=options.rounds, broken=options.broken)
    return {**figures, "duplicated": figures["claims"] - figures["won_by_one"]}


def crashes(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """F2 and F3: a kill and each error at every file call of a sweep."""
    return try_all(seed=options.seed, folder=folder, per_call=options.per_call, broken=options.broken)


def inputs(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """F20: readers on damaged tables, records and configurations."""
    from fuzz import fuzz_readers

    return fuzz_readers(inputs=options.inputs, seed=options.seed, folder=folder)


STAGES: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "kills": kills, "stops": stops, "clocks": clocks, "claims": claims, "crashes": crashes, "inputs": inputs,
}  # fmt: skip


def main() -> int:
    """Runs the stages; returns the exit code."""
    options = _options()
    print(f"seed {options.seed}", flush=True)
    figures: dict[str, Any] = {"seed": options.seed}
    for name in options.only or STAGES:
        with tempfile.TemporaryDirectory(dir=options.dir, prefix="chaos-") as folder:
            began = os.times()
            figures[name] = STAGES[name](options, Path(folder))
            spent = [after - before for before, after in zip(began[:4], os.times()[:4], strict=True)]
            figures[name]["cpu_seconds"] = round(sum(spent), 1)
        print(f"{name}: {json.dumps(figures[name])}", flush=True)
    pairs = ((stage, name) for stage in options.only or STAGES for name in MUST_BE_ZERO)
    bad = {f"{stage}.{name}": figures[stage][name] for stage, name in pairs if figures[stage].get(name)}
    figures["faults_found"] = bad
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{'FAILED: ' + json.dumps(bad) if bad else 'all held'}; figures in {options.out}", flush=True)
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=REPO / "build" / "chaos.json", help="JSON file of figures")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--only", action="append", choices=list(STAGES), help="a stage; may be repeated")
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--stops", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=40, help="of the claim race, 50 runs each")
    parser.add_argument("--per-call", type=int, help="faults tried at each file call; all of them without it")
    parser.add_argument("--inputs", type=int, default=200_000, help="of the readers")
    parser.add_argument("--dir", type=Path, default=MEMORY if os.access(MEMORY, os.W_OK) else None)
    parser.add_argument("--broken", choices=list(MECHANISMS), help="break a mechanism on purpose, to see it found")
    return parser.parse_args()


def _broken(storm: Storm, options: argparse.Namespace) -> Storm:
    return dataclasses.replace(storm, broken=options.broken)


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s", flush=True)
    sys.exit(code)
