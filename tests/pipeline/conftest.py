"""A small bilingual text, and one finished run of the pipeline on it that the tests of this folder share."""

import json
import random

import pytest

from flops_fit import cli

NOUNS = [("house", "casa"), ("table", "mesa"), ("street", "calle"), ("moon", "luna"), ("letter", "carta")]
PLACES = [("river", "río"), ("garden", "jardín"), ("market", "mercado"), ("forest", "bosque"), ("bridge", "puente")]
NAMES = ["Ana", "Hugo", "Clara", "Oscar", "Marta", "Ramón"]
# Few sizes to probe, and no step of a size that the tests do not need.
SMALL = (
    "pipeline=quick", "pipeline.min_size=16", "pipeline.max_size=24", "sweep.min_size=8", "sweep.max_size=12",
    "pipeline.eval_samples=64",
)  # fmt: skip


def write_lines(folder, count=50, seed=0):
    """Files of so many lines in each language, line by line a translation."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        (noun_en, noun_es), (place_en, place_es), name = rng.choice(NOUNS), rng.choice(PLACES), rng.choice(NAMES)
        rows.append(
            (
                f"{name} saw the {noun_en} number {i} near the {place_en}, and it was very old.",
                f"{name} vio la {noun_es} número {i} cerca del {place_es}, y era muy vieja.",
            )
        )
    paths = []
    for lang, column in (("en", 0), ("es", 1)):
        path = folder / f"lines.{lang}.txt"
        path.write_text("\n".join(row[column] for row in rows) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def command(folder, out, *arguments, verb="run", count=50):
    """The arguments of a small pipeline on such files."""
    paths = write_lines(folder, count)
    corpus = [part for path in paths for part in ("--corpus-path", str(path))]
    return ["pipeline", verb, *SMALL, *corpus, "--epochs", "2", "--output-dir", str(out), *arguments]


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
