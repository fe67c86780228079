"""The command run in this process, a finished sweep and a table of runs."""

import pytest
from small_sweep import SMALL

from flops_fit import cli


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs the command in this process and returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        try:
            cli.main([str(a) for a in argv])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def sweep_dir(tmp_path_factory):
    """A finished sweep of the built-in task."""
    folder = tmp_path_factory.mktemp("cli") / "sweep"
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", *SMALL, f"out={folder}", "--json"])
    assert not stop.value.code
    return folder


@pytest.fixture
def runs_csv(tmp_path):
    """Noise-free runs of a known law: six budgets, eight sizes."""
    rows = ["C,N,D,loss"]
    for budget in (1e18, 3e18, 1e19, 3e19, 1e20, 3e20):
        centre = (budget / 120) ** 0.5
        for factor in (0.2, 0.33, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0):
            n = centre * factor
            d = budget / 6 / n
            rows.append(f"{budget},{n},{d},{1.69 + 406.4 / n**0.34 + 410.7 / d**0.28}")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(rows) + "\n")
    return path
