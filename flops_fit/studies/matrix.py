"""The matrix of a study: a job for each condition, listed from names alone, and the jobs that filters leave."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flops_fit.errors import ConfigError, InputError
from flops_fit.schema import unknown_name
from flops_fit.studies.configuration import DEFAULT, named_study
from flops_fit.studies.settings import SPLITS, StudySpec, dose_text

JOBS = "jobs"
FILTERS = ("dose", "view", "gridsize")


@dataclass(frozen=True, kw_only=True)
class StudyJob:
    """One condition of a study, with everything that its training reads and writes."""

    dose: float
    """Photons per exposure."""
    view: str
    gridsize: int
    train_data_path: Path
    test_data_path: Path
    artifact_dir: Path
    """A/jobs/<job_id>, where A is the artifact root."""
    log_path: Path
    study: StudySpec = field(default_factory=lambda: named_study(DEFAULT), repr=False, compare=False)
    """What the job belongs to."""
    job_id: str = field(init=False)
    """Such as dose_1000-dense-gs2; follows from the three above."""

    def __post_init__(self) -> None:
        """Refuses a view that the study does not have, and a grid size that the view is not trained with."""
        views = self.study.views
        if self.view not in views:
            raise ConfigError(unknown_name("view", self.view, str(self.view), views))
        fitting = views[self.view].gridsizes
        if self.gridsize not in fitting:
            listed = " or ".join(map(str, fitting))
            raise ConfigError(f"gridsize: got {self.gridsize!r}, expected {listed} for the view {self.view!r}.")
        for name in ("train_data_path", "test_data_path", "artifact_dir", "log_path"):
            object.__setattr__(self, name, Path(getattr(self, name)))
        object.__setattr__(self, "job_id", _job_id(self.dose, self.view, self.gridsize))

    @property
    def artifact_root(self) -> Path:
        """A, which the paths in results are relative to."""
        return self.artifact_dir.parent.parent

    @property
    def title(self) -> str:
        """The job in the lines of a run."""
        short = f"{self.dose:.0e}"
        dose = short if float(short) == self.dose else f"{self.dose:g}"
        return f"{self.view} (dose={dose}, gridsize={self.gridsize})"


def build_training_jobs(
    phase_c_root: str | Path, phase_d_root: str | Path, artifact_root: str | Path, study: str | StudySpec = DEFAULT
) -> list[StudyJob]:
    """Lists every job of a study: by dose, then by view in the study's order, then by grid size.

    It looks at no data and changes nothing; see `check_data_files`.

    Args:
        phase_c_root: Folder of the baseline data.
        phase_d_root: Folder of the views.
        artifact_root: Folder that jobs write to.
        study: A preset's name (configs/study), or a study.

    Raises:
        ConfigError: If there is no such study.
    """
    spec = named_study(study)
    roots = {"phase_c": Path(phase_c_root), "phase_d": Path(phase_d_root)}
    jobs = []
    for dose in sorted(spec.doses):
        for name, view in spec.views.items():
            for gridsize in view.gridsizes:
                files = [roots[view.root] / view.path(dose=dose, view=name, split=split) for split in SPLITS]
                folder = Path(artifact_root) / JOBS / _job_id(dose, name, gridsize)
                jobs.append(
                    StudyJob(
                        dose=dose, view=name, gridsize=gridsize, train_data_path=files[0], test_data_path=files[1],
                        artifact_dir=folder, log_path=folder / "train.log", study=spec,
                    )
                )  # fmt: skip
    return jobs


def select_jobs(
    jobs: Sequence[StudyJob], filters: Mapping[str, Sequence[Any]], notify: Callable[[str], None] = lambda line: None
) -> list[StudyJob]:
    """Returns the jobs that pass every filter, with a line for each filter.

    Args:
        jobs: All of a study.
        filters: Values to keep by "dose", "view" and "gridsize"; none keeps all.
        notify: Shows a line.

    Raises:
        ConfigError: If a value is that of no job, or no job is left; the message lists the values there are.
    """
    notify(f"{len(jobs)} total jobs enumerated")
    left = list(jobs)
    for name in FILTERS:
        wanted = list(filters.get(name, ()))
        if wanted:
            left = [job for job in left if getattr(job, name) in wanted]
            # "1 jobs" is on purpose: programs read these lines.
            notify(f"Filtered by {name}={','.join(map(str, wanted))}: {len(left)} jobs remain")
            missing = [value for value in wanted if value not in values_of(jobs, name)]
            if missing:
                raise ConfigError(f"{name}: no job has {', '.join(map(str, missing))}. {_available(jobs)}")
    if not left:
        raise ConfigError(f"no job passes all filters. {_available(jobs)}")
    return left


def check_data_files(jobs: Iterable[StudyJob]) -> None:
    """Refuses jobs whose data are not there.

    Raises:
        InputError: If a file is missing; the message names the first and how to make it.
    """
    jobs = list(jobs)
    missing = [p for job in jobs for p in (job.train_data_path, job.test_data_path) if not p.is_file()]
    if missing:
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        name = jobs[0].study.name
        raise InputError(
            f"{missing[0]}: no such file{others}. `flops-fit study simulate study={name} --out DIR` makes the data of "
            "this study; then give --phase-c-root DIR/phase_c --phase-d-root DIR/phase_d."
        )


def values_of(jobs: Iterable[StudyJob], name: str) -> list[Any]:
    """The distinct values of one field over jobs, in their order."""
    return list(dict.fromkeys(getattr(job, name) for job in jobs))


def _job_id(dose: float, view: str, gridsize: int) -> str:
    return f"dose_{dose_text(dose)}-{view}-gs{gridsize}"


def _available(jobs: Sequence[StudyJob]) -> str:
    listed = "; ".join(f"{name} {', '.join(map(str, values_of(jobs, name)))}" for name in FILTERS)
    return f"There are: {listed}. Leave a filter out, or take one of these."
