"""Configuration of a study: composed like that of a sweep, into a `StudySpec`."""

from collections.abc import Sequence
from pathlib import Path

from flops_fit.errors import ConfigError
from flops_fit.presets import STUDY_GROUPS, preset_names
from flops_fit.schema import build, unknown_name
from flops_fit.studies.settings import StudySpec

ROOT = "study_run"
DEFAULT = "dose_overlap"


def load_study(overrides: Sequence[str] = (), *, config_dir: Path | None = None) -> StudySpec:
    """Composes a study.

    Args:
        overrides: ``study=NAME`` and ``study.dotted.key=value``, as on the command line.
        config_dir: A folder of the user's own groups.

    Raises:
        ConfigError: If a study, a key or a value is unknown or out of range.
    """
    # The configuration of a sweep knows tasks, and with them torch; a study is listed without.
    from flops_fit.config import compose_plain

    values = compose_plain(overrides, root=ROOT, groups=STUDY_GROUPS, config_dir=config_dir)
    unknown = sorted(set(values) - {"study"})
    if unknown:
        raise ConfigError(unknown_name("key", unknown[0], unknown[0], ["study"]) + " Settings are study.KEY=VALUE.")
    return build(StudySpec, values["study"], path="study")


def named_study(study: str | StudySpec) -> StudySpec:
    """Returns a study as it is, or the preset of that name.

    Raises:
        ConfigError: If there is no such preset.
    """
    if isinstance(study, StudySpec):
        return study
    known = preset_names(groups=STUDY_GROUPS)["study"]
    if study not in known:
        raise ConfigError(unknown_name("study", study, study, known))
    return load_study([f"study={study}"])
