"""Help beyond the options: presets of the planning verbs, laws and options of the fitting ones.

Read when ``--help`` of such a verb is asked for, so that `flops-fit --help` imports neither numpy nor torch.
"""

import ast
import dataclasses
import inspect
from itertools import pairwise
from typing import Any

from typer.core import TyperCommand

from flops_fit.console import print_definitions


class FitCommand(TyperCommand):
    """A verb that takes options of the fit."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Adds the laws and the option keys."""
        from flops_fit.fitting import FitOptions

        super().format_help(ctx, formatter)
        print_definitions("Laws (law=NAME)", law_titles())
        docs = _field_docs(FitOptions)
        keys = [(f"{f.name}={_written(f.default)}", docs[f.name]) for f in dataclasses.fields(FitOptions)]
        print_definitions("Options of the fit (key=value, here with their defaults)", keys)


class PlanCommand(TyperCommand):
    """A verb that composes a configuration."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Adds the groups and their presets."""
        from flops_fit.presets import preset_names

        super().format_help(ctx, formatter)
        print_definitions(
            "Presets (group=name)", [(group, ", ".join(names)) for group, names in preset_names().items()]
        )
        print_definitions(
            "Keys (key=value)",
            [
                ("out", "Folder of the sweep; a run in the same folder resumes."),
                ("group.key", "Any setting, such as sweep.num_seeds=2 or 'sweep.compute_budgets=[1e10,3e10,1e11]'."),
                ("", "`flops-fit config show` prints every key with its value."),
            ],
        )


def law_titles() -> list[tuple[str, str]]:
    """Returns the name and the title of each law that can be chosen."""
    from flops_fit.fitting import method_title, selectable_methods

    return [(name, method_title(name)) for name in selectable_methods()]


def _field_docs(cls: type[Any]) -> dict[str, str]:
    """The docstring below each field of a dataclass, which only its source holds."""
    definition = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: doc.value.value
        for field, doc in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
        and isinstance(doc.value.value, str)
    }


def _written(value: Any) -> str:
    """A default as it is written on the command line."""
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower()
