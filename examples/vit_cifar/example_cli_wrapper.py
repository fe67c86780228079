"""A vision transformer on CIFAR-10, as a command: the grid and the shape of the model are flags."""

import argparse
import sys
from collections.abc import Sequence

from flops_fit.examples import reference
from flops_fit.examples.vit_cifar.example_programmatic import DATA_HELP, run


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser; its destinations are the arguments of ``run``."""
    parser = reference.make_parser(__doc__, data_help=DATA_HELP)
    shape = parser.add_argument_group("shape of the model")
    shape.add_argument("--num-layers", type=int, default=2, metavar="N", help="blocks")
    shape.add_argument("--num-heads", type=int, metavar="N", help="sizes are multiples of it (default: by the images)")
    shape.add_argument("--patch-size", type=int, metavar="N", help="pixels of a patch's side (default: by the images)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return reference.run_command(run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
