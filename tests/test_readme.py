"""What the README shows must run, and what it links to must exist."""

import re
import shlex

import pytest
from support import REPO
from typer.main import get_command

from flops_fit.cli import app

README = (REPO / "README.md").read_text()
PAGES = sorted(p for p in REPO.rglob("*.md") if not {".venv", "outputs"} & set(p.parts))


@pytest.mark.slow
def test_the_python_of_the_readme_runs_and_writes_its_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 1
    exec(compile(blocks[0], "README.md", "exec"), {"__name__": "readme"})
    out = capsys.readouterr().out
    assert out.startswith("No check found a reason to doubt these runs.")
    assert "warning (" not in out
    assert "Compute Budget" in out
    assert (tmp_path / "outputs" / "readme.html").is_file()


def test_the_verbs_of_the_readme_exist():
    verbs = {shlex.split(line, comments=True)[1] for line in README.splitlines() if line.startswith("    flops-fit ")}
    assert verbs <= set(get_command(app).commands)


def test_the_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"make (\w+)", README))
    assert targets <= set(re.findall(r"^(\w+):", (REPO / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(REPO))) for p in PAGES])
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
