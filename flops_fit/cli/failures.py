"""Failures: every exception becomes one message, one exit code and, with ``--json``, one object."""

import os
import sys
import traceback
from dataclasses import dataclass, replace
from typing import NoReturn

import typer

from flops_fit.console import is_main_process, print_json, print_message
from flops_fit.errors import FlopsFitError, StoreError, format_frames

BUG, USAGE, INTERRUPTED = 1, 2, 130
DEBUG = "FLOPS_FIT_DEBUG"
# typer has its own copy of click or the installed one, depending on its version; the base class tells which.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a command ends without its answer."""

    type: str
    message: str
    exit_code: int


def describe_failure(error: BaseException) -> Failure:
    """Returns the message and exit code of an exception; what nobody expected is a bug of ours."""
    kind = type(error).__name__
    if isinstance(error, FlopsFitError):
        return Failure(type=kind, message=str(error), exit_code=error.exit_code)
    if isinstance(error, UsageError):
        return Failure(type="UsageError", message=_usage_message(error), exit_code=USAGE)
    if isinstance(error, KeyboardInterrupt):
        message = "interrupted; finished runs are kept. Run the same command again to resume."
        return Failure(type=kind, message=message, exit_code=INTERRUPTED)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}. Check the path, its permissions and the free space."
        return Failure(type=kind, message=message, exit_code=StoreError.exit_code)
    message = (
        f"{_with_causes(error)}. This is a bug of ours; run again with {DEBUG}=1 for the traceback, and report it."
    )
    return Failure(type=kind, message=message, exit_code=BUG)


def end_with(error: BaseException, *, as_json: bool, usage_code: int = USAGE) -> NoReturn:
    """Reports the failure and ends the process: once for all ranks, except for a bug, which each rank reports."""
    failure = describe_failure(error)
    if failure.type == "UsageError":
        failure = replace(failure, exit_code=usage_code)
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    if is_main_process():
        print_message(f"error: {failure.message}")
        if as_json:
            print_json({"error": {"type": failure.type, "message": failure.message, "exit_code": failure.exit_code}})
    elif failure.exit_code == BUG:
        print_message(f"error on rank {os.environ.get('RANK')}: {failure.message}")
    sys.exit(failure.exit_code)


def _usage_message(error: Exception) -> str:
    message = str(error.format_message()).strip() or "no verb was given"  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    hint = "" if context is None else f" Try '{context.command_path} --help'."
    return f"{message.rstrip('.')}{'' if message.endswith('?') else '.'}{hint}"


def _with_causes(error: BaseException) -> str:
    """The exception with its last frame, and those that it was raised from, on one line."""
    place = "".join(f" ({frame})" for frame in format_frames(error, last=1))
    text = f"{type(error).__name__}: {error}".rstrip(".") + place
    return text if error.__cause__ is None else f"{text}, caused by {_with_causes(error.__cause__)}"
