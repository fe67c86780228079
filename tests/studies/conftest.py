"""A tiny study in a folder of its own groups, its data, and the command run on them."""

import json

import pytest
from tiny_study import YAML

from flops_fit.studies import main
from flops_fit.studies.configuration import load_study


@pytest.fixture(scope="session")
def groups(tmp_path_factory):
    """A folder that holds the group ``study`` with ``tiny``."""
    folder = tmp_path_factory.mktemp("groups")
    (folder / "study").mkdir()
    (folder / "study" / "tiny.yaml").write_text(YAML)
    return folder


@pytest.fixture(scope="session")
def tiny(groups):
    """The study itself."""
    return load_study(["study=tiny"], config_dir=groups)


@pytest.fixture(scope="session")
def data(groups, tmp_path_factory):
    """Its data."""
    out = tmp_path_factory.mktemp("data")
    assert main(["simulate", "study=tiny", "--config-dir", str(groups), "--out", str(out)]) == 0
    return out


@pytest.fixture
def study_run(capsys, groups, data, tmp_path):
    """Runs ``flops-fit study run`` on the tiny study, into ``tmp_path / "A"``: (exit code, stdout, stderr)."""

    def run(*argv):
        roots = ["--phase-c-root", data / "phase_c", "--phase-d-root", data / "phase_d"]
        capsys.readouterr()
        code = main(["study=tiny", "--config-dir", groups, *roots, "--artifact-root", tmp_path / "A", *argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def manifest(tmp_path):
    """Reads the manifest of A as strict JSON."""

    def refuse(constant):
        raise AssertionError(f"{constant} in strict JSON")

    def read():
        return json.loads((tmp_path / "A" / "training_manifest.json").read_text(), parse_constant=refuse)

    return read
