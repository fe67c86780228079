"""The command `flops-fit`: verbs and options here, the work in the rooms below.

Progress and messages go to stderr; with ``--json`` stdout holds one JSON object, an answer or an error, and nothing
else. Torch is imported only by the verbs that build models. A new verb is one function in the file of its group, and
its name in `app.VERBS`; a new group is one file and its name in the import below.
"""

import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from flops_fit.cli import fits, machine, pipelines, studies, sweeps
from flops_fit.cli.app import app
from flops_fit.cli.failures import INTERRUPTED, USAGE, end_with
from flops_fit.launching import report_exit_code
from flops_fit.stopping import signals_end_command

__all__ = ["app", "fits", "machine", "main", "pipelines", "studies", "sweeps"]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    # The matrices of a fit are small: BLAS threads, whose number numpy reads once, cost three times what they save.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "accelerate", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    arguments = list(sys.argv[1:] if argv is None else argv)
    with report_exit_code():
        _run(arguments)


def _run(arguments: list[str]) -> NoReturn:
    as_json = "--json" in arguments
    try:
        with signals_end_command():
            code = app(args=arguments, prog_name="flops-fit", standalone_mode=False)
        if code == INTERRUPTED:  # typer answers an interrupt with this code, without a word.
            raise KeyboardInterrupt
    except (Exception, KeyboardInterrupt) as error:
        end_with(error, as_json=as_json, usage_code=pipelines.USAGE if pipelines.GROUP in arguments[:1] else USAGE)
    sys.exit(code or 0)
