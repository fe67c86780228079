"""The command run in this process, and one finished run of the pipeline that the tests of this folder share."""

import json

import pytest
from small_pipeline import command

from flops_fit import cli


@pytest.fixture
def call(capsys):
    """Runs the command in this process and returns (exit code, stdout, stderr)."""

    def run(*arguments):
        capsys.readouterr()
        try:
            cli.main([str(a) for a in arguments])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a finished run: 50 lines in each language, two epochs."""
    root = tmp_path_factory.mktemp("pipeline")
    with pytest.raises(SystemExit) as stop:
        cli.main(command(root / "text", root / "out"))
    assert not stop.value.code
    return root / "out"


@pytest.fixture
def metrics(finished):
    return json.loads((finished / "training_metrics.json").read_text(encoding="utf-8"))
