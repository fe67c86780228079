"""Paths of a command line are checked before anything is computed or written."""

import os
from pathlib import Path

import pytest

from flops_fit.cli.paths import check_output_file, check_output_folder
from flops_fit.errors import ConfigError


@pytest.fixture
def cluttered(tmp_path, monkeypatch):
    """A folder with a file, a link, a broken link, a pipe and a folder."""
    monkeypatch.chdir(tmp_path)
    Path("notes.py").write_text("x = 1\n")
    Path("page.html").write_text("old")
    Path("link.html").symlink_to("page.html")
    Path("gone.html").symlink_to("nothing.html")
    Path("folder.html").mkdir()
    os.mkfifo("pipe.html")
    return tmp_path


def entries(folder):
    return {p.name: (p.lstat().st_mode, None if not p.is_file() else p.read_bytes()) for p in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("link.html", "link to page.html"),
        ("gone.html", "link to nothing.html"),
        ("/dev/stdout", "link"),
        ("/dev/null", "device"),
        ("pipe.html", "pipe"),
        ("folder.html", "folder.html/report.html"),
        ("notes.py", "HTML"),
        ("new.csv", "HTML"),
        ("notes.py/page.html", "notes.py is a file"),
        ("-", "stdout"),
    ],
)
def test_a_report_never_replaces_what_is_not_a_report(call, cluttered, name, words):
    # The runs do not exist: the path is refused before they are read.
    before, device = entries(cluttered), Path(name).lstat() if name.startswith("/dev") else None
    code, out, err = call("report", "missing.csv", "--out", name)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert entries(cluttered) == before
    assert device is None or Path(name).lstat() == device


@pytest.mark.parametrize("name", ["page.html", "new/deep/page.html", "PAGE.HTM"])
def test_a_report_may_be_new_or_replace_a_page(cluttered, name):
    check_output_file(Path(name))


def test_missing_folders_of_the_report_are_made(call, runs_csv, tmp_path):
    code, out, _ = call("report", runs_csv, "--out", "new/deep/page.html")
    assert code == 0
    assert out == "new/deep/page.html\n"
    assert "<html" in (tmp_path / out.strip()).read_text()


@pytest.mark.parametrize(
    ("name", "words"),
    [("notes.py", "is a file"), ("notes.py/sweep", "is a file"), ("", "empty"), ("gone.html", "does not exist")],
)
def test_a_sweep_needs_a_folder(call, cluttered, name, words):
    before = entries(cluttered)
    code, out, err = call("run", "sweep=smoke", f"out={name}")
    assert (code, out) == (2, "")
    assert words in err
    assert "out=DIR" in err
    assert entries(cluttered) == before


def test_a_link_to_a_folder_is_a_folder(cluttered):
    Path("scratch").symlink_to(cluttered)
    check_output_folder("scratch")
    with pytest.raises(ConfigError):
        check_output_folder("scratch/notes.py")


@pytest.mark.parametrize("argv", [["status", "notes.py"], ["train", "notes.py"]])
def test_a_file_is_no_sweep(call, cluttered, argv):
    code, _, err = call(*argv)
    assert code == 2
    assert "notes.py: got a file" in err


@pytest.mark.parametrize("verb", [["fit"], ["predict", "--compute", "1e20"], ["report"]])
def test_a_folder_without_a_plan_names_the_files_of_runs_in_it(call, tmp_path, verb):
    (tmp_path / "runs.csv").write_text("C,N,D,loss\n")
    code, _, err = call(verb[0], tmp_path, *verb[1:])
    assert code == 2
    assert "plan.json" in err
    assert str(tmp_path / "runs.csv") in err
    assert [p.name for p in tmp_path.iterdir()] == ["runs.csv"]


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere", "no such folder"), ("page.html", "got a file"), ("folder.html", "sweep/mine.yaml")]
)
def test_a_folder_of_groups_is_checked(call, cluttered, name, words):
    before = entries(cluttered)
    code, _, err = call("run", "--config-dir", name)
    assert code == 2
    assert words in err
    assert "task, sweep, train, fit" in err
    assert entries(cluttered) == before
