"""Source code of functions: normalised text, the global names it reads, and whether it is a library's."""

import ast
import dis
import functools
import importlib
import importlib.metadata
import importlib.util
import linecache
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# Their functions mean the same in each version; what ran is recorded with each result.
UNVERSIONED = {"torch", "numpy"}
OWN_FOLDER = Path(__file__).parents[1]
STDLIB = Path(sysconfig.get_path("stdlib"))


def library_of(module_name: str | None) -> str | None:
    """Returns name and version of the package that a module belongs to; None for the user's own code.

    The standard library, torch and numpy go without a version. This package counts as the user's: the models of its
    examples are identified by what they compute, not by its version.
    """
    root = (module_name or "").split(".")[0]
    if not root or root in ("__main__", "__mp_main__", "flops_fit"):
        return None
    if root in sys.stdlib_module_names or root in UNVERSIONED:
        return root
    return _installed(root)


def is_library_file(path: str) -> bool:
    """Whether a file belongs to an installed package or to Python itself, this package apart."""
    if path.startswith("<frozen"):
        return True
    file = Path(path)
    if file.is_relative_to(OWN_FOLDER):
        return False
    return "site-packages" in file.parts or "dist-packages" in file.parts or file.is_relative_to(STDLIB)


@functools.cache
def _installed(root: str) -> str | None:
    module = sys.modules.get(root)
    origin = getattr(module, "__file__", None)
    if origin is None:
        spec = _spec_of(root)
        origin = None if spec is None else spec.origin
    if origin is None or not is_library_file(origin):
        return None
    version = getattr(module, "__version__", None)
    if not isinstance(version, str):
        try:
            version = importlib.metadata.version(root)
        except importlib.metadata.PackageNotFoundError:
            version = ""
    return f"{root} {version.split('+')[0]}"  # What follows a plus names the build (CPU, CUDA).


def normalised_source(function: FunctionType) -> str:
    """Returns what a function computes, as text: without comments, docstrings, annotations and formatting.

    Where the source cannot be found (typed into an interpreter, or generated) it is its byte code.
    """
    node = tree_of(function)
    if node is None:
        return _byte_code(function.__code__)
    return ast.unparse(_Bare().visit(ast.parse(ast.unparse(node))))


def tree_of(function: FunctionType) -> FunctionNode | None:
    """Returns the syntax tree of a function or lambda; None where its source cannot be found."""
    code = function.__code__
    tree = _parsed("".join(linecache.getlines(code.co_filename, function.__globals__)))
    found = [node for node in _functions(tree) if _first_line(node) == code.co_firstlineno and _is_named(node, code)]
    if len(found) > 1:
        found = [node for node in found if isinstance(node, ast.Lambda) and _holds(node, code)]
    return found[0] if len(found) == 1 else None


def names_read(code: CodeType) -> tuple[set[str], set[str], list[tuple[str, int, tuple[str, ...]]]]:
    """Returns the globals, the attributes and the imports (name, level, names taken) that code reads."""
    names: set[str] = set()
    attributes: set[str] = set()
    imports: list[tuple[str, int, tuple[str, ...]]] = []
    constants: list[Any] = []
    for instruction in dis.get_instructions(code):
        kind, value = instruction.opname, instruction.argval
        if kind in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(value)
        elif kind in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(value)
        elif kind == "IMPORT_NAME":
            level, taken = constants[-2:]
            imports.append((value, level, tuple(taken or ())))
        elif kind == "LOAD_CONST" or kind == "LOAD_SMALL_INT":
            constants.append(value)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = names_read(constant)
            names |= inner[0]
            attributes |= inner[1]
            imports += inner[2]
    return names, attributes, imports


def imported_module(name: str, level: int, package: str | None) -> ModuleType | None:
    """Returns a module that the user's code imports inside a function; None for a library's, or if it is missing."""
    try:
        full = importlib.util.resolve_name("." * level + name, package) if level else name
        spec = _spec_of(full)
        if library_of(full) is not None or spec is None:
            return None
        return importlib.import_module(full)
    except Exception:
        return None  # A function may catch what its import raises.


def _spec_of(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def _functions(tree: ast.Module) -> Iterator[FunctionNode]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def _first_line(node: FunctionNode) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def _is_named(node: FunctionNode, code: CodeType) -> bool:
    return getattr(node, "name", "<lambda>") == code.co_name


def _holds(node: ast.Lambda, code: CodeType) -> bool:
    """Whether code stands inside this lambda, of several on one line."""
    start, end = (node.body.lineno, node.body.col_offset), (node.body.end_lineno, node.body.end_col_offset)
    spots = [(line, column) for line, _, column, last in code.co_positions() if column is not None and column != last]
    first = min(((n, c) for n, c in spots if n is not None), default=None)
    return first is not None and start <= first < end  # type: ignore[operator]


class _Bare(ast.NodeTransformer):
    """Drops docstrings, annotations and other text that computes nothing."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._body(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def _body(self, node: Any) -> ast.AST:
        is_text = [isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) for n in node.body]
        node.body = [n for n, text in zip(node.body, is_text, strict=True) if not text] or [ast.Pass()]
        return self.generic_visit(node)


def _byte_code(code: CodeType) -> str:
    constants = list(code.co_consts)
    if code.co_name != "<lambda>" and constants and isinstance(constants[0], str):
        del constants[0]  # The docstring.
    texts = [_byte_code(c) if isinstance(c, CodeType) else _constant(c) for c in constants]
    return f"{code.co_code.hex()} {texts} {code.co_names} {code.co_varnames}"


def _constant(value: Any) -> str:
    # The order of a set of strings is another one in each process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
