"""The typer application, the order of its verbs, and the options that several verbs share."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flops_fit.cli.version import version_text

# In the order of use, as --help lists them; a verb that is not here comes last.
VERBS = ("run", "plan", "train", "status", "fit", "predict", "report", "study", "pipeline", "config", "doctor")


class OrderedVerbs(TyperGroup):
    """Lists the verbs in the order of `VERBS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns their names."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: VERBS.index(name) if name in VERBS else len(VERBS))


app = typer.Typer(
    cls=OrderedVerbs,
    help="Plan a sweep of small runs, train it, fit scaling laws, and say how sure the answer is.",
    epilog="Exit codes: 0 done, 1 a bug of ours, 2 wrong usage or input, 3 some runs failed, 4 other workers hold "
    "the rest, 5 not to be trusted (with --strict), 74 storage, 75 preempted (run it again), 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

Overrides = Annotated[list[str] | None, typer.Argument(help="key=value and group=name, such as sweep=smoke.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout, an error too.")]
ConfigDir = Annotated[Path | None, typer.Option(help="A folder of your own configuration groups.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 5 where the answer is not to be trusted (level: no).")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version_text())
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and commit.")
    ] = False,
) -> None:
    """The options before the verb."""
