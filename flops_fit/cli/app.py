"""The typer application and the options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Plan a sweep of small runs, train it, fit scaling laws, and say how sure the answer is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

Overrides = Annotated[list[str] | None, typer.Argument(help="key=value and group=name, such as sweep=smoke.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
ConfigDir = Annotated[Path | None, typer.Option(help="A folder of your own configuration groups.")]
