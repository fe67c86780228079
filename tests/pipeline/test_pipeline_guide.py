"""The training guide: its code runs as it stands, and its tables hold every exit code and every error."""

import re

import pytest
from support import REPO

from flops_fit import errors
from flops_fit.pipeline.settings import FLAGS

FOLDER = REPO / "examples" / "pipeline"
GUIDE = (FOLDER / "TRAINING_GUIDE.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
SECTIONS = {int(n): text for n, text in re.findall(r"^## (\d+)\. (.*?)(?=^## )", GUIDE, flags=re.DOTALL | re.MULTILINE)}
AT_LEAST = {1: (1, 0), 2: (2, 2), 3: (1, 1), 4: (1, 1), 5: (3, 2), 6: (1, 1), 7: (1, 1), 10: (1, 0)}
"""Diagrams and code blocks of a section."""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_of_the_guide_runs_as_it_stands(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"TRAINING_GUIDE.md, block {number}", "exec"), {"__name__": "guide"})


def test_the_guide_has_ten_sections_between_contents_and_glossary():
    assert sorted(SECTIONS) == list(range(1, 11))
    assert "## Contents" in GUIDE
    assert "## Glossary" in GUIDE
    for number, (diagrams, code) in AT_LEAST.items():
        assert SECTIONS[number].count("```text") >= diagrams, number
        assert SECTIONS[number].count("```python") >= code, number
    assert GUIDE.count("```text") >= 10
    assert len(BLOCKS) >= 10
    assert len(re.findall(r"^\|(?:-+\|)+$", GUIDE, flags=re.MULTILINE)) >= 3


def test_the_links_of_the_contents_lead_to_sections():
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.*)$", GUIDE, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= anchors


def test_troubleshooting_names_every_exit_code_and_every_error():
    rows = [line for line in SECTIONS[8].splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) > 10
    assert {"0", "1", "2", "3", "4", "5", "74", "75", "130"} <= {row.split("|")[1].strip() for row in rows}
    for name, thing in vars(errors).items():
        if isinstance(thing, type) and issubclass(thing, errors.FlopsFitError):
            assert f"`{name}`" in SECTIONS[8], name


def test_the_tuning_table_names_the_flags_of_the_recipe():
    for flag in ("epochs", "batch_size", "learning_rate", "vocab_size", "max_seq_length"):
        assert flag in FLAGS
        assert f"`--{flag.replace('_', '-')}`" in SECTIONS[9]
