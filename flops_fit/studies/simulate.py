"""Simulation of a study's data, by the study's own function."""

from collections.abc import Mapping
from pathlib import Path

from flops_fit.config import resolve
from flops_fit.errors import ConfigError, FlopsFitError, InputError, format_frames
from flops_fit.studies.matrix import build_training_jobs
from flops_fit.studies.settings import StudySpec

ROOTS: Mapping[str, str] = {"phase_c_root": "phase_c", "phase_d_root": "phase_d"}
"""Folders that a simulation writes, by the option of `flops-fit study run` that takes them."""


def simulate_study(study: StudySpec, out: Path) -> list[Path]:
    """Makes every data file of a study in ``out/phase_c`` and ``out/phase_d``.

    Returns:
        The files, in the order of the jobs.

    Raises:
        ConfigError: If ``out`` is a file, or the study's function cannot be imported or raises.
        InputError: If it has left out a file that a job needs.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file, expected a folder. Give another name.")
    function, data = resolve(study.simulate, setting="study.simulate"), study.data
    try:
        function(
            out, doses=study.doses, views=tuple(study.views), patch=data.patch, num_train=data.num_train,
            num_test=data.num_test, seed=study.seed, **data.options,
        )  # fmt: skip
    except (FlopsFitError, OSError):
        raise
    except Exception as error:
        frames = "".join(f"\n  {frame}" for frame in format_frames(error))
        raise ConfigError(
            f"study.simulate: {study.simulate} raised {type(error).__name__}: {error}{frames}\n"
            "Fix it there, or the settings of study.data."
        ) from error
    jobs = build_training_jobs(out / ROOTS["phase_c_root"], out / ROOTS["phase_d_root"], out, study=study)
    files = list(dict.fromkeys(path for job in jobs for path in (job.train_data_path, job.test_data_path)))
    for path in files:
        if not path.is_file():
            raise InputError(
                f"{path}: no such file after {study.simulate}, expected one for each dose, view and split. "
                "Fix it there, or study.views.NAME.files."
            )
    return files
