"""The house rules: who may import whom, and who never imports torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "flops_fit"

# Rooms by layer; a room imports lower rows only, and rooms of one row do not know each other.
LAYERS = [
    {"errors", "quantities", "findings", "memory"},
    {"files", "schema", "announced", "stopping", "yaml_files"},
    {"records", "distributed", "presets"},
    {"store", "data", "flops", "recipes"},
    {"fitting", "claims"},
    {"tasks", "planning", "reporting", "imports", "console"},
    {"training", "launching", "result", "progress"},
    {"api", "config"},
    {"pipeline", "studies"},
    {"cli"},
    {"__main__"},
]
# The same inside the rooms that have rooms of their own.
INNER_LAYERS = {
    "fitting": [
        {"options", "flops_function", "trust"},
        {"inputs"},
        {"uncertainty"},
        {"methods"},
        {"laws", "outliers", "parameter_counts", "prediction", "backtest"},
        {"simulation"},
        {"scaling_laws", "posterior", "draws"},
        {"diagnostics", "comparison"},
        {"fit"},
    ],
    "launching": [
        {"options", "accelerate_options", "machine"},
        {"commands"},
        {"running", "slurm"},
    ],
    "training": [
        {"settings", "order", "gradients", "weight_average", "checkpoints", "checkpoint_timer", "interruption"},
        {"feeding"},
        {"evaluation", "engine"},
        {"metrics", "step", "weights"},
        {"divergence"},
        {"loop"},
        {"experiment"},
        {"sweep"},
        {"workers", "estimate"},
    ],
}
TORCH_FREE = {
    "errors", "findings", "quantities", "memory", "schema", "files", "records", "recipes", "fitting", "store",
    "imports", "planning", "presets", "reporting", "result", "console", "cli", "announced", "launching", "claims",
    "stopping", "studies", "yaml_files",
}  # fmt: skip


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "__init__":
            yield path, parts


def imported_modules(path):
    """Dotted parts, below the package, of what a module imports; type-checking blocks left out."""
    for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "flops_fit" and len(parts) > 1:
                yield parts[1:]


def level_of(room, layers):
    found = [level for level, rooms in enumerate(layers) if room in rooms]
    assert found, f"{room} stands in no layer"
    return found[0]


def _without_type_checking(tree):
    class Drop(ast.NodeTransformer):
        def visit_If(self, node):
            named = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if named else self.generic_visit(node)

    return Drop().visit(tree)


MODULES = [pytest.param(p, parts, id="/".join(parts)) for p, parts in modules()]


@pytest.mark.parametrize(("path", "parts"), MODULES)
def test_a_room_imports_lower_rooms_only(path, parts):
    level = level_of(parts[0], LAYERS)
    for other in imported_modules(path):
        if other[0] != parts[0]:
            assert level_of(other[0], LAYERS) < level, f"{parts[0]} imports {other[0]}"


@pytest.mark.parametrize(("path", "parts"), [m for m in MODULES if m.values[1][0] in INNER_LAYERS])
def test_a_room_inside_a_room_imports_lower_rooms_only(path, parts):
    layers = INNER_LAYERS[parts[0]]
    if parts[1] == "__init__":
        return
    level = level_of(parts[1], layers)
    for other in imported_modules(path):
        if other[0] == parts[0] and other[1] != parts[1]:
            assert level_of(other[1], layers) < level, f"{'.'.join(parts)} imports {'.'.join(other)}"


@pytest.mark.parametrize("room", sorted(TORCH_FREE))
def test_rooms_of_numbers_do_not_import_torch(room):
    code = f"import sys, flops_fit.{room}; assert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("path", "parts"), MODULES)
def test_no_file_is_longer_than_300_lines(path, parts):
    assert len(path.read_text().splitlines()) <= 300
