"""Presets: the groups of YAML files that a command can name, the package's own and the user's."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from flops_fit.errors import ConfigError

GROUPS = ("task", "sweep", "train", "fit")
PIPELINE_GROUPS = ("pipeline", "corpus")
STUDY_GROUPS = ("study",)


def packaged_configs() -> Path:
    """Returns the folder ``configs/``, also from an installed wheel."""
    spec = importlib.util.find_spec("flops_fit.configs")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def preset_names(config_dir: Path | None = None, groups: Sequence[str] = GROUPS) -> Mapping[str, tuple[str, ...]]:
    """Returns the names that each group offers, such as ``{"sweep": ("small", "smoke"), ...}``.

    Raises:
        ConfigError: If ``config_dir`` is not a folder that holds groups.
    """
    folders = [packaged_configs()]
    if config_dir is not None:
        folders.append(_checked(config_dir, groups))
    found = {group: {path.stem for folder in folders for path in folder.glob(f"{group}/*.yaml")} for group in groups}
    return {group: tuple(sorted(names)) for group, names in found.items()}


def _checked(config_dir: Path, groups: Sequence[str]) -> Path:
    expected = (
        f"Expected a folder that holds groups ({', '.join(groups)}), such as {config_dir}/{groups[:2][-1]}/mine.yaml."
    )
    if not config_dir.exists():
        raise ConfigError(f"--config-dir {config_dir}: no such folder. {expected}")
    if not config_dir.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: got a file. {expected.replace(str(config_dir), 'DIR')}")
    if not any(path.parent.name in groups for path in config_dir.glob("*/*.yaml")):
        raise ConfigError(f"--config-dir {config_dir}: holds no YAML file of any group. {expected}")
    return config_dir
