"""The house rules: who may import whom, and who never imports torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "flops_fit"

# Rooms by layer; a room imports lower rows only, and rooms of one row do not know each other.
LAYERS = [
    {"errors", "quantities"},
    {"schema", "files"},
    {"records"},
    {"budgets", "table_files"},
    {"data", "fitting", "store", "runs", "launching"},
    {"flops"},
    {"tasks", "planning", "reporting"},
    {"training", "result"},
    {"api", "config"},
    {"console"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
TORCH_FREE = {
    "errors", "quantities", "schema", "files", "records", "fitting", "store", "runs", "budgets", "table_files",
    "planning", "reporting", "result", "console", "cli",
}  # fmt: skip


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":
            yield path, room


def imported_rooms(path):
    """Rooms that a module imports when it is loaded or run, type-checking blocks left out."""
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "flops_fit" and len(parts) > 1:
                yield parts[1]


def _without_type_checking(tree):
    class Drop(ast.NodeTransformer):
        def visit_If(self, node):
            named = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if named else self.generic_visit(node)

    return Drop().visit(tree)


MODULES = [pytest.param(p, r, id=str(p.relative_to(PACKAGE))) for p, r in modules()]


@pytest.mark.parametrize(("path", "room"), MODULES)
def test_a_room_imports_lower_rooms_only(path, room):
    assert room in LEVEL, f"{room} stands in no layer"
    for other in imported_rooms(path):
        if other != room:
            assert LEVEL[other] < LEVEL[room], f"{room} imports {other}"


@pytest.mark.parametrize("room", sorted(TORCH_FREE))
def test_rooms_of_numbers_do_not_import_torch(room):
    code = f"import sys, flops_fit.{room}; assert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("path", "room"), MODULES)
def test_no_file_is_longer_than_300_lines(path, room):
    assert len(path.read_text().splitlines()) <= 300
