"""Errors raised on purpose, and the exit code that each ends in.

    FlopsFitError
    |- ConfigError      a setting is unknown, of the wrong type or out of range        exit 2
    |- ContractError    a model, data set or loss breaks the duck-typed contract       exit 2
    |- PlanError        no sensible sweep exists for these budgets and sizes           exit 2
    |- InputError       a file of runs cannot be used as it is                         exit 2
    |- FitError         the runs do not support a usable number                        exit 2
    |- LaunchError      the launcher's world is not the one Accelerate sees            exit 2
    |- Preempted        a signal asked to stop; the work so far is kept               exit 75
    |- RankLost         another process of the run has ended or hangs                  exit 75
    |- StoreError       the output folder cannot be read or written                    exit 74
    |  |- PlanMismatch  it belongs to another sweep                                    exit 2
    |  |- LeaseHeld     another worker uses it, and it cannot be shared                exit 4
    `- ExperimentError  one run cannot go on; it is recorded and the sweep continues   exit 3
       |- DataExhausted, ModelFailed

Each message has three parts: what we got, what we expected, what to do next.
"""

import traceback
from pathlib import Path


class FlopsFitError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 2


class ConfigError(FlopsFitError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class ContractError(FlopsFitError, TypeError, ValueError):
    """A model, data set or loss function breaks the contract that training relies on."""


class PlanError(FlopsFitError, ValueError):
    """No sensible sweep exists for these budgets and sizes."""


class InputError(FlopsFitError, ValueError):
    """A file of runs cannot be used as it is."""


class FitError(FlopsFitError, ValueError):
    """The runs do not support a usable number."""


class LaunchError(FlopsFitError, RuntimeError):
    """The world that the launcher announced is not the one that Accelerate sees."""


class Preempted(FlopsFitError, RuntimeError):
    """A signal asked the command to stop; it goes on where it was when it is run again."""

    exit_code = 75


class RankLost(FlopsFitError, RuntimeError):
    """Another process of the run has ended, or has kept this one waiting for too long."""

    exit_code = 75


class StoreError(FlopsFitError, OSError):
    """The output folder cannot be read or written."""

    exit_code = 74


class PlanMismatch(StoreError):
    """The output folder belongs to another sweep."""

    exit_code = 2


class LeaseHeld(StoreError):
    """Another worker uses the output folder, and its file system allows one alone."""

    exit_code = 4


class ExperimentError(FlopsFitError, RuntimeError):
    """One run cannot go on; it is recorded with its reason and the sweep continues."""

    exit_code = 3


class DataExhausted(ExperimentError):
    """The data ended before the planned tokens were seen."""


class ModelFailed(ExperimentError):
    """The model, its data set or its loss raised."""


def format_frames(error: BaseException, *, last: int = 3) -> tuple[str, ...]:
    """Returns the innermost frames of a traceback as "file.py:12 in function: code", outermost first.

    Frames of installed packages and of the import system are left out where others remain.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    own = [f for f in frames if "site-packages" not in Path(f.filename).parts] or frames
    return tuple(f"{f.filename}:{f.lineno} in {f.name}: {f.line}" for f in own[-last:])
