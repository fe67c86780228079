"""Configuration: YAML groups and ``key=value`` overrides, composed once into frozen values; and the task they name.

Hydra's Compose API over ``configs/``; it never touches argv, the working directory or logging, so every
rank composes the same. A dotted key may name any field of the dataclasses below, whether a YAML file holds
it or not.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flops_fit.errors import ConfigError, FlopsFitError, InputError, format_frames
from flops_fit.fitting import FitOptions, check_law
from flops_fit.planning.settings import SweepSettings
from flops_fit.presets import GROUPS, packaged_configs, preset_names
from flops_fit.schema import build, to_plain, unknown_name
from flops_fit.tasks import Task
from flops_fit.training.settings import TrainSettings
from flops_fit.yaml_files import read_yaml

# Anything but a plain reference within ${...}, also in a later or an inner one.
_RESOLVER = re.compile(r"\$\{[^}]*:")


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
    composed = _compose(overrides, "config", GROUPS, config_dir)
    return _to_config(composed), OmegaConf.to_yaml(composed, resolve=False)


def compose_plain(
    overrides: Sequence[str], *, root: str, groups: Sequence[str], config_dir: Path | None = None
) -> dict[str, Any]:
    """Composes another root of ``configs/`` to plain values, references resolved; errors as of `load_config`."""
    return _resolved(_compose(overrides, root, groups, config_dir))


def _compose(overrides: Sequence[str], root: str, groups: Sequence[str], config_dir: Path | None) -> DictConfig:
    presets = preset_names(config_dir, groups)
    extra = [] if config_dir is None else [_search_path(config_dir)]
    try:
        with initialize_config_dir(version_base=None, config_dir=str(packaged_configs())):
            return compose(root, overrides=[*extra, *(_checked_override(o, presets) for o in overrides)])
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).partition("\nSee ")[0].split()).rstrip(".")
        raise ConfigError(f"cannot compose the overrides {' '.join(overrides) or '(none)'}: {reason}.") from error


def read_config(path: Path) -> RunConfig:
    """Reads the ``config.yaml`` of a sweep's folder.

    Raises:
        InputError: If there is none.
        ConfigError: If it holds something that this version does not know.
    """
    if not path.parent.is_dir():
        problem = "got a file, expected a sweep's folder" if path.parent.exists() else "no such folder"
        raise InputError(f"{path.parent}: {problem}. Give one made by `flops-fit run`.")
    if not path.is_file():
        raise InputError(
            f"{path.parent} has no config.yaml: its sweep was made from Python. Run that script again; "
            "find_optimal(..., output_dir=...) goes on where it stopped."
        )
    text = read_yaml(path)
    try:
        loaded = OmegaConf.create(text)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path}: not readable as YAML: {problem}. Correct it there, or restore the file.") from error
    assert isinstance(loaded, DictConfig)
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


def build_task(config: TaskConfig) -> Task:
    """Calls the task's factory.

    Raises:
        ConfigError: If it cannot be imported, does not take the options, raises, or returns something else.
    """
    factory = resolve(config.factory)
    _check_options(factory, config)
    try:
        task = factory(**config.options)
    except FlopsFitError:
        raise
    except Exception as error:
        raise ConfigError(_failure_of_user_code(f"task.factory: {config.factory} raised", error)) from error
    if not isinstance(task, Task):
        raise ConfigError(f"task.factory: {config.factory} returned {type(task).__name__}, expected a Task.")
    return task


def resolve(name: str, *, setting: str = "task.factory") -> Any:
    """Imports ``package.module:function``; modules in the working directory are found too.

    Args:
        name: Module and function. Naming one means running its code.
        setting: Where it was named, for messages.

    Raises:
        ConfigError: If there is no such function.
    """
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"{setting}: got {name!r}, expected package.module:function.")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(_failure_of_user_code(f"{setting}: importing {module_name!r} raised", error)) from error
        raise ConfigError(
            f"{setting}: cannot import {module_name!r}: {error}. Install it, or run from the folder that holds it."
        ) from error
    except Exception as error:
        raise ConfigError(_failure_of_user_code(f"{setting}: importing {module_name!r} raised", error)) from error
    if not callable(getattr(module, attribute, None)):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ConfigError(f"{setting}: " + unknown_name("function", name, attribute, names))
    return getattr(module, attribute)


def _check_options(factory: Callable[..., Any], config: TaskConfig) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # A callable of C code has none.
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [p.name for p in named]
    if not any(p.kind == p.VAR_KEYWORD for p in parameters):
        for name in config.options:
            if name not in known:
                raise ConfigError("task.options: " + unknown_name(f"option of {config.factory}", name, name, known))
    missing = [p.name for p in named if p.default is p.empty and p.name not in config.options]
    if missing:
        raise ConfigError(
            f"task.options: {config.factory} needs {', '.join(missing)}. Give each: task.options.{missing[0]}=VALUE."
        )


def _failure_of_user_code(what: str, error: Exception) -> str:
    # The first frame is ours: the call.
    error = error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None)
    frames = "".join(f"\n  {frame}" for frame in format_frames(error))
    return f"{what} {type(error).__name__}: {error}{frames}\nFix it there; FLOPS_FIT_DEBUG=1 shows the whole traceback."


def _search_path(config_dir: Path) -> str:
    quoted = str(config_dir.resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.searchpath=['file://{quoted}']"


def _checked_override(override: str, presets: Mapping[str, Sequence[str]]) -> str:
    """Lets ``key=value`` name any key; the dataclasses, not the YAML, say which exist."""
    key, equals, value = override.partition("=")
    if not re.fullmatch(r"[+~]*[\w./@-]+", key) or not (equals or key.startswith("~")):
        raise ConfigError(f"got {override!r}, expected key=value (or group=name).")
    if key[:1] in "+~":
        return override
    if key in presets:
        if value not in presets[key]:
            raise ConfigError(unknown_name("preset", override, value, presets[key]))
        return override
    if re.search(r"^[^\[({'\"]*,", value):
        raise ConfigError(f"{key}: got {value!r}; a list stands in brackets, quoted for the shell: '{key}=[{value}]'.")
    return f"++{override}"


def _to_config(composed: DictConfig) -> RunConfig:
    config = build(RunConfig, _resolved(composed))
    check_law(config.fit.law)
    return config


def _resolved(composed: DictConfig) -> dict[str, Any]:
    _refuse_resolvers(OmegaConf.to_container(composed, resolve=False), "")
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, RecursionError) as error:
        key, problem = getattr(error, "full_key", None) or "configuration", str(error).partition("\n")[0]
        raise ConfigError(
            f"{key}: {problem}. Give a value there, or a reference such as ${{seed}} to a key that has one."
        ) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _refuse_resolvers(value: Any, path: str) -> None:
    """Only ``${a.b}`` is allowed: a resolver could read the environment into a file that is shared."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_resolvers(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for inner in value:
            _refuse_resolvers(inner, path)
    elif isinstance(value, str) and _RESOLVER.search(value):
        raise ConfigError(
            f"{path}: got {value!r}; resolvers are not run. Only references like ${{a.b}} are: write the value."
        )
