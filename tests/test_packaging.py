"""The wheel holds everything that the built-in task needs, and works from any directory."""

import subprocess
import sys
import sysconfig
import tomllib
import zipfile

import pytest
from support import REPO


def test_the_top_level_holds_what_the_design_says():
    tracked = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    folders = {line.split("/")[0] for line in tracked.stdout.splitlines() if "/" in line}
    assert folders == {"flops_fit", "configs", "examples", "launch", "tests", ".ci"}


def test_the_declared_dependencies_hold_the_design_card():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    names = {d.split(">")[0].split("<")[0].strip() for d in project["dependencies"]}
    assert {
        "accelerate", "torch", "numpy", "scipy", "matplotlib", "datasets", "transformers", "safetensors",
        "hydra-core", "typer", "rich", "jinja2",
    } <= names  # fmt: skip


def test_torch_is_pinned_where_it_is_installed():
    assert "torch==2.13.0" in (REPO / "constraints.txt").read_text().splitlines()


@pytest.mark.slow
def test_the_wheel_plans_the_built_in_task_from_another_directory(tmp_path):
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            tmp_path,
            REPO,
        ],
        check=True,
        cwd=tmp_path,
    )
    wheel = next(tmp_path.glob("*.whl"))
    target = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(target)
    # -S leaves out the editable install; the dependencies come back by path.
    code = (
        f"import sys; sys.path[:0] = [{str(target)!r}, {sysconfig.get_path('purelib')!r}]\n"
        "import flops_fit.examples; assert 'installed' in flops_fit.examples.__file__\n"
        "from flops_fit.cli import main; main(['plan', '--json', 'sweep=smoke'])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"num_experiments": 25' in done.stdout
    files = {path.relative_to(REPO / "launch") for path in (REPO / "launch").glob("*/*")}
    assert files == {path.relative_to(target / "flops_fit/launch") for path in target.glob("flops_fit/launch/*/*")}
