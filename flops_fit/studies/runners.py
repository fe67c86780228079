"""Runners of a study: one registry. A new runner is a function ``(*, config, job, log_path)`` and an entry below."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fit.errors import ConfigError
from flops_fit.schema import unknown_name
from flops_fit.studies.jobs import RunJob
from flops_fit.studies.legacy import TrainingConfig
from flops_fit.studies.matrix import StudyJob
from flops_fit.studies.settings import StudySpec


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What a job is run with."""

    function: str
    """``package.module:function``."""
    about: str
    reads: tuple[str, ...] = ("task", "measure", "training", "sweep", "seed")
    """Settings of the study that change its result: a job is run again where one of them has changed."""
    calls: tuple[str, ...] = ()
    """Settings of the study that name functions it calls; checked before anything runs."""


def run_stub(*, config: TrainingConfig, job: StudyJob, log_path: Path) -> Mapping[str, Any]:
    """Trains nothing, and says so: for trying the matrix and the bridge."""
    return {"status": "stub_complete"}


RUNNERS: Mapping[str, Runner] = {
    "train": Runner(
        function="flops_fit.studies.train:train_condition",
        about="one training per condition, measured on its held-out data",
        reads=("task", "measure", "training", "seed"),
        calls=("task", "measure"),
    ),
    "sweep": Runner(
        function="flops_fit.studies.sweep:sweep_condition",
        about="a sweep and its scaling law per condition",
        reads=("task", "sweep", "seed"),
        calls=("task",),
    ),
    "stub": Runner(function="flops_fit.studies.runners:run_stub", about="nothing is trained", reads=()),
}


def find_runner(name: str) -> Runner:
    """Returns the runner of that name, or one for the user's own ``package.module:function``.

    Raises:
        ConfigError: If it is neither.
    """
    if name in RUNNERS:
        return RUNNERS[name]
    if ":" not in name:
        raise ConfigError(unknown_name("runner", name, name, RUNNERS) + " Or your own: package.module:function.")
    return Runner(function=name, about="the user's own function")


def load_runner(runner: Runner, study: StudySpec) -> RunJob:
    """Imports a runner and what it calls.

    Raises:
        ConfigError: If one of them cannot be imported.
    """
    from flops_fit.config import resolve

    for setting in runner.calls:
        resolve(getattr(study, setting), setting=f"study.{setting}")
    found: RunJob = resolve(runner.function, setting="runner")
    return found
