"""What every reference family shares: the flags, the mock and the real path, and the way to data on the hub."""

import argparse
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from flops_fit.cli.failures import describe_failure
from flops_fit.console import is_main_process, print_message
from flops_fit.errors import ConfigError
from flops_fit.planning.settings import SweepSettings
from flops_fit.schema import build

if TYPE_CHECKING:
    from flops_fit.result import Result
    from flops_fit.tasks import Task

HUB_SECONDS = 4.0
"""How long to wait for the hub's server before it counts as out of reach."""

GRID = {
    "budgets": "compute_budgets",
    "min_size": "min_size",
    "max_size": "max_size",
    "size_multiple": "size_multiple",
    "num_sizes": "num_sizes_per_budget",
}
"""Flags of the grid, and the settings of the sweep that they replace."""


def make_parser(description: str, *, data_help: str) -> argparse.ArgumentParser:
    """Returns a parser with the flags of every family; a family adds the shape of its model.

    The flags' destinations are the keyword arguments of the family's ``run``.
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--real", action="store_true", help="train; without it losses are simulated")
    parser.add_argument("--data", metavar="NAME", help=data_help)
    parser.add_argument("--output-dir", metavar="DIR", help="folder of the sweep (default: one under outputs/)")
    grid = parser.add_argument_group("grid of the sweep (default: the preset)")
    grid.add_argument("--budgets", nargs="+", action=_Budgets, metavar="FLOPS", help="training FLOPs, five or more")
    grid.add_argument("--min-size", type=int, metavar="N", help="smallest size to consider")
    grid.add_argument("--max-size", type=int, metavar="N", help="largest size")
    grid.add_argument("--size-multiple", type=int, metavar="N", help="sizes are multiples of this")
    grid.add_argument("--num-sizes", type=int, metavar="N", help="sizes at each budget")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data order and simulated noise")
    return parser


class _Budgets(argparse.Action):
    """Numbers apart by blanks or commas: ``1e9 2e9`` or ``1e9,2e9``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        words = [word for value in values for word in value.split(",") if word]
        try:
            budgets = [float(word) for word in words]
        except ValueError as error:
            raise argparse.ArgumentError(self, f"got {' '.join(words)}, expected numbers such as 1e9 2e9") from error
        setattr(namespace, self.dest, budgets)


def run_command(run: Callable[..., Any], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parses the arguments and calls ``run`` with them; returns the exit code, after one line for what went wrong."""
    arguments = vars(parser.parse_args(argv))
    try:
        run(**arguments)
    except (Exception, KeyboardInterrupt) as error:
        failure = describe_failure(error)
        if is_main_process():
            print_message(f"error: {failure.message}")
        return failure.exit_code
    return 0


def sweep_settings(preset: Mapping[str, Any], **flags: Any) -> SweepSettings:
    """Returns the preset with the flags of `GRID` that are not None in place of its own settings.

    Raises:
        ConfigError: If a flag is unknown or its value is out of range.
    """
    unknown = sorted(set(flags) - set(GRID))
    if unknown:
        raise ConfigError(f"got the setting {unknown[0]!r}, expected one of {', '.join(GRID)}.")
    given = {GRID[name]: value for name, value in flags.items() if value is not None}
    settings = {"flops_per_param_per_token": "measured", **preset, **given}
    return build(SweepSettings, settings, path="sweep")


def sweep(
    task: "Task", settings: SweepSettings, *, real: bool, output_dir: str | Path | None, default_dir: str, seed: int
) -> "Result":
    """Trains the sweep (``real``) or simulates its losses; prints the Chinchilla table, the fit and the report's path.

    Args:
        task: Model, data and loss.
        settings: The grid.
        real: False makes no forward pass: the losses are those of a seeded law.
        output_dir: Folder of the sweep; None for ``default_dir``, or ``default_dir`` with "_mock" behind.
        default_dir: Folder of a real sweep, where none is named.
        seed: Of weights, data order and simulated noise.
    """
    # Here, so that a command whose data are out of reach ends in seconds: the engine takes two to import.
    from flops_fit.api import run_sweep, simulate_sweep

    folder = Path(output_dir or (default_dir if real else f"{default_dir}_mock"))
    if real:
        result = run_sweep(task, settings, folder, seed=seed)
    else:
        result = simulate_sweep(replace(task, name=f"{task.name}, losses simulated"), settings, folder, seed=seed)
    if is_main_process():
        if not real:
            print("Simulated losses: no model was trained, and the law below is the simulation's. Train with --real.\n")
        print(f"{result.chinchilla_table()}\n\n{result}\n\nreport: {folder / 'report' / 'index.html'}")
    return result


def load_hub_split(name: str, split: str) -> Any:
    """Returns one split of a data set on the hub, or of a folder that holds a copy of it.

    Raises:
        ConfigError: Within seconds, if the hub is out of reach and its cache here has no copy.
    """
    reason = None if Path(name).is_dir() else _why_unreachable()
    if reason and not _is_cached(name):
        raise ConfigError(_no_hub(name, reason))
    if reason:
        # Read when `datasets` is imported: it takes its copy at once, without retries.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import datasets

    try:
        return datasets.load_dataset(name, split=split)
    except Exception as error:  # Of httpx, pyarrow, fsspec or datasets, whatever is at fault.
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise ConfigError(_no_hub(name, f"{type(error).__name__}: {lines[0].rstrip('.')}")) from error


def _no_hub(name: str, reason: str) -> str:
    return (
        f"{name} cannot be loaded ({reason}). Name other data with --data; or a local copy: --data FOLDER "
        "with its parquet files, or HF_HOME of a machine that has loaded it; or unset HF_HUB_OFFLINE where there is "
        "a network."
    )


def _why_unreachable() -> str | None:
    """Why the hub cannot be asked; None where it answers, or where a proxy is in between."""
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{variable} is set and the cache has no copy of it"
    if getproxies():
        return None
    url = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    address = (url.hostname or "huggingface.co", url.port or (80 if url.scheme == "http" else 443))
    found: list[bool] = []
    # In a thread, because looking up a name knows no timeout.
    attempt = threading.Thread(target=_connect, args=(address, found), daemon=True)
    attempt.start()
    attempt.join(HUB_SECONDS)
    return None if found else f"no connection to {address[0]}"


def _connect(address: tuple[str, int], found: list[bool]) -> None:
    try:
        socket.create_connection(address, timeout=HUB_SECONDS).close()
    except OSError:
        return
    found.append(True)


def _is_cached(name: str) -> bool:
    """Whether the caches of `datasets` or of the hub have a folder for this data set."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    tables = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets"))
    files = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    owner, _, short = name.rpartition("/")
    # As `datasets` names its folders: roneneldan/TinyStories is roneneldan___tiny_stories.
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", short).lower()
    return (tables / f"{owner}___{snake}").is_dir() or (files / f"datasets--{owner}--{short}").is_dir()
