"""A GPT on TinyStories, as a command: the grid and the shape of the model are flags."""

import argparse
import sys
from collections.abc import Sequence

from flops_fit.examples import reference
from flops_fit.examples.gpt_tinystories.example_programmatic import DATA_HELP, run


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser; its destinations are the arguments of ``run``."""
    parser = reference.make_parser(__doc__, data_help=DATA_HELP)
    parser.add_argument("--pattern", default="**/*.txt", metavar="GLOB", help="files of a folder of text")
    shape = parser.add_argument_group("shape of the model")
    shape.add_argument("--n-layer", type=int, default=2, metavar="N", help="blocks")
    shape.add_argument("--n-head", type=int, default=2, metavar="N", help="heads; sizes are multiples of it")
    shape.add_argument("--seq-len", type=int, default=64, metavar="T", help="tokens of a sample")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return reference.run_command(run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
