"""Settings of a study: its conditions, where their data lie, and what is trained on each (configs/study)."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flops_fit.errors import ConfigError
from flops_fit.planning.recipe import RecipeRule
from flops_fit.planning.settings import SweepSettings

SPLITS = ("train", "test")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class View:
    """One way of scanning: the grid sizes it is trained with, and where its data lie."""

    gridsizes: tuple[int, ...]
    root: Literal["phase_c", "phase_d"]
    """Which of the two roots of `flops-fit study run` holds its files."""
    files: str
    """Path below that root; ``{dose}``, ``{view}`` and ``{split}`` (train, test) are filled in."""

    def path(self, *, dose: float, view: str, split: str) -> str:
        """The path below the root of one file."""
        parts = {"dose": dose_text(dose), "view": view, "split": split}
        return re.sub(r"\{(dose|view|split)\}", lambda match: parts[match[1]], self.files)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Arguments of the study's simulation."""

    patch: int
    """Detector pixels along one side of a pattern."""
    num_train: int
    """Samples of each training file."""
    num_test: int
    """Samples of each held-out file."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The one training per condition of the runner ``train``."""

    size: int
    """Value of the task's size parameter."""
    num_samples: int
    """Training samples seen. D is this times the tokens of a sample, which differ between grid sizes, while a sample
    costs about the same FLOPs: so all conditions are trained for the same compute."""
    recipe: RecipeRule = field(default_factory=RecipeRule)


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A study: every dose with every view. Its three functions are ``package.module:function``, code that is run."""

    name: str
    simulate: str
    """Makes the data: ``simulate(out, *, doses, views, patch, num_train, num_test, seed, **options)``."""
    task: str
    """Makes a condition's task: ``task(train_file, test_file, *, gridsize)``."""
    measure: str
    """Measures a trained model: ``measure(model, test_file, *, gridsize)``, a mapping of numbers."""
    doses: tuple[float, ...]
    """Photons per exposure."""
    views: Mapping[str, View]
    data: DataSettings
    training: TrainingSettings
    sweep: SweepSettings = field(default_factory=SweepSettings)
    """The grid of the runner ``sweep``, the same for every condition."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the engine (configs/train), such as workers; they change no result."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses an empty matrix and names that cannot be part of a path."""
        if not self.doses or not all(math.isfinite(dose) and dose > 0 for dose in self.doses):
            raise ConfigError(f"study.doses: got {list(self.doses)}, expected positive numbers, such as [1e3, 1e4].")
        if len(set(map(dose_text, self.doses))) < len(self.doses):
            raise ConfigError(f"study.doses: got {list(self.doses)}, expected each dose once.")
        if not self.views:
            raise ConfigError("study.views: got none, expected at least one, as in configs/study/dose_overlap.yaml.")
        for name, view in self.views.items():
            _check_view(name, view)
        for name in ("simulate", "task", "measure"):
            if ":" not in getattr(self, name):
                raise ConfigError(f"study.{name}: got {getattr(self, name)!r}, expected package.module:function.")
        counts = {
            "data.patch": self.data.patch, "data.num_train": self.data.num_train, "data.num_test": self.data.num_test,
            "training.size": self.training.size, "training.num_samples": self.training.num_samples,
        }  # fmt: skip
        for key, count in counts.items():
            if count < 1:
                raise ConfigError(f"study.{key}: got {count}, expected at least 1.")


def dose_text(dose: float) -> str:
    """A dose in names of files, jobs and folders: 1000, or 2.5."""
    return f"{dose:.0f}" if float(dose).is_integer() else f"{dose:g}"


def _check_view(name: str, view: View) -> None:
    where = f"study.views.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: a view is named with letters, digits and underscores, as it is part of paths.")
    if not view.gridsizes or min(view.gridsizes) < 1:
        raise ConfigError(f"{where}.gridsizes: got {list(view.gridsizes)}, expected whole numbers from 1, such as [2].")
    missing = [part for part in ("{dose}", "{split}") if part not in view.files]
    if missing or view.files.startswith("/") or ".." in view.files.split("/"):
        raise ConfigError(
            f"{where}.files: got {view.files!r}, expected a path below the root with {{dose}} and {{split}}, such as "
            "dose_{dose}/{view}/{view}_{split}.npz."
        )
