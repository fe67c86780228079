"""What did the user ask for? YAML groups and ``key=value`` overrides, composed once into frozen values.

Hydra's Compose API over ``configs/``; it never touches argv, the working directory or logging, so every
rank composes the same. A dotted key may name any field of the dataclasses below, whether a YAML file holds
it or not.
"""

import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flops_fit.errors import ConfigError, InputError
from flops_fit.fitting import FitOptions, check_law
from flops_fit.planning.isoflop import SweepSettings
from flops_fit.schema import build, to_plain, unknown_name
from flops_fit.tasks import Task
from flops_fit.training.settings import TrainSettings

MAX_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Which task to build (configs/task)."""

    factory: str
    """``package.module:function`` that returns a `Task`. Naming one means running its code."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of that function."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that `flops-fit run` needs (configs/config.yaml)."""

    task: TaskConfig
    sweep: SweepSettings
    train: TrainSettings
    fit: FitOptions
    seed: int = 0
    out: str = "outputs"


def load_config(overrides: Sequence[str] = (), *, config_dir: Path | None = None) -> tuple[RunConfig, str]:
    """Composes the configuration.

    Args:
        overrides: ``group=name`` and ``dotted.key=value``, as on the command line.
        config_dir: A folder of the user's own groups, searched beside the packaged ones.

    Returns:
        The configuration, and its YAML text with references unresolved.

    Raises:
        ConfigError: If a group, a key or a value is unknown; the nearest known name is given.
    """
    extra = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
    try:
        with initialize_config_dir(version_base=None, config_dir=str(packaged_configs())):
            composed = compose("config", overrides=[*extra, *(_open_key(o, config_dir) for o in overrides)])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{error}\nGot the overrides: {' '.join(overrides) or '(none)'}.") from error
    return _to_config(composed), OmegaConf.to_yaml(composed, resolve=False)


def read_config(path: Path) -> RunConfig:
    """Reads the ``config.yaml`` of a sweep's folder.

    Raises:
        InputError: If there is none.
        ConfigError: If it holds something that this version does not know.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder. Expected one made by `flops-fit run`.")
    if not path.is_file():
        raise InputError(
            f"{path.parent} has no config.yaml: its sweep was made from Python. Run that script again; "
            "find_optimal(..., output_dir=...) goes on where it stopped."
        )
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: got {path.stat().st_size} bytes, expected at most {MAX_BYTES}.")
    try:
        loaded = OmegaConf.load(path)
    except (OmegaConfBaseException, ValueError, OSError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path}: got a list, expected a mapping of settings.")
    return _to_config(loaded)


def with_workers(settings: TrainSettings, workers: str | None) -> TrainSettings:
    """Returns the settings with ``train.workers`` as given on the command line; None leaves it.

    Raises:
        ConfigError: If it is neither a positive number nor "auto".
    """
    if workers is None:
        return settings
    value = int(workers) if re.fullmatch(r"[+-]?\d+", workers) else workers
    return build(TrainSettings, {**to_plain(settings), "workers": value}, path="train")


def packaged_configs() -> Path:
    """Returns the folder ``configs/``, also from an installed wheel."""
    spec = importlib.util.find_spec("flops_fit.configs")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def build_task(config: TaskConfig) -> Task:
    """Calls the task's factory.

    Raises:
        ConfigError: If it cannot be imported, does not take the options, or returns something else.
    """
    factory = resolve(config.factory)
    try:
        task = factory(**config.options)
    except TypeError as error:
        raise ConfigError(f"task.options: {config.factory} does not take these: {error}") from error
    if not isinstance(task, Task):
        raise ConfigError(f"task.factory: {config.factory} returned {type(task).__name__}, expected a Task.")
    return task


def resolve(name: str) -> Any:
    """Imports ``package.module:function``; modules in the working directory are found too.

    Raises:
        ConfigError: If there is no such function.
    """
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"task.factory: got {name!r}, expected package.module:function.")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"task.factory: cannot import {module_name!r}: {error}") from error
    if not callable(getattr(module, attribute, None)):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ConfigError("task.factory: " + unknown_name("function", name, attribute, names))
    return getattr(module, attribute)


def _open_key(override: str, config_dir: Path | None) -> str:
    """Lets ``key=value`` name any key; the dataclasses, not the YAML, say which exist."""
    key, equals, _ = override.partition("=")
    if not equals and not key.startswith("~"):
        raise ConfigError(f"got {override!r}, expected key=value (or group=name).")
    groups = {p.name for d in (packaged_configs(), config_dir) if d for p in d.iterdir() if p.is_dir()}
    return override if key[:1] in "+~" or key in groups else f"++{override}"


def _to_config(composed: DictConfig) -> RunConfig:
    _refuse_resolvers(OmegaConf.to_container(composed, resolve=False), "")
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    assert isinstance(plain, dict)
    config = build(RunConfig, {str(key): value for key, value in plain.items()})
    check_law(config.fit.law)
    return config


def _refuse_resolvers(value: Any, path: str) -> None:
    """Only ``${a.b}`` is allowed: a resolver could read the environment into a file that is shared."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_resolvers(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for inner in value:
            _refuse_resolvers(inner, path)
    elif isinstance(value, str) and "${" in value and ":" in value.split("${", 1)[1].split("}", 1)[0]:
        raise ConfigError(f"{path}: got {value!r}; resolvers are not run. Only references like ${{a.b}} are.")
