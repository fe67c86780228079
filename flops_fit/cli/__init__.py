"""The command `flops-fit`: verbs and options here, the work in the rooms below.

Progress and messages go to stderr; with ``--json`` stdout holds one JSON object and nothing else.
Torch is imported only by the verbs that build models. A new verb is one function in the file of its group; a new
group is one file and its name in the import below.
"""

import logging
import os
import sys
from collections.abc import Sequence

from flops_fit.cli import fits, machine, sweeps
from flops_fit.cli.app import app
from flops_fit.console import fail
from flops_fit.errors import FlopsFitError

__all__ = ["app", "fits", "machine", "main", "sweeps"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    # The matrices of a fit are small: threads of BLAS, which numpy reads once, cost three times what they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "accelerate", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app(args=None if argv is None else list(argv), prog_name="flops-fit")
    except FlopsFitError as error:
        fail(str(error), error.exit_code)
    except ValueError as error:
        # Arguments are checked where they are used; a plain ValueError there is wrong input too.
        if os.environ.get("FLOPS_FIT_DEBUG"):
            raise
        fail(str(error), 2)
    except KeyboardInterrupt:
        fail("interrupted; what finished is kept. Run the same command again to go on.", INTERRUPTED)
