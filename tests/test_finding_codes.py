"""Finding codes: the list and the code agree."""

import ast
from pathlib import Path
from typing import get_args

import pytest

from flops_fit.findings import FINDING_CODES
from flops_fit.fitting.methods.result import CurveCode

PACKAGE = Path(__file__).parents[1] / "flops_fit"
# One call takes its code from the curve that it is about.
BY_VARIABLE = {"fitting/diagnostics/curves.py": set(get_args(CurveCode))}


def codes_of(path):
    """Every code that a module's ``Finding(...)`` calls can have."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Finding":
            (code,) = [k.value for k in call.keywords if k.arg == "code"]
            if isinstance(code, ast.Name):
                yield from BY_VARIABLE[path.relative_to(PACKAGE).as_posix()]
                continue
            for choice in (code.body, code.orelse) if isinstance(code, ast.IfExp) else (code,):
                assert isinstance(choice, ast.Constant), f"{path}:{call.lineno}: write the code as a literal"
                yield choice.value


def test_every_code_is_listed_and_every_listed_code_is_used():
    used = {code for path in PACKAGE.rglob("*.py") for code in codes_of(path)}
    assert used == set(FINDING_CODES)


@pytest.mark.parametrize("code", FINDING_CODES)
def test_a_meaning_is_one_sentence(code):
    assert FINDING_CODES[code].endswith(".")
    assert FINDING_CODES[code][0].isupper()


def test_the_page_of_the_documentation_lists_every_code_with_its_meaning():
    rows = [f"| `{code}` | {meaning} |" for code, meaning in sorted(FINDING_CODES.items())]
    page = (PACKAGE / "findings.md").read_text().splitlines()
    assert page[page.index("|---|---|") + 1 :] == rows
