"""A small bilingual text, and the arguments of a pipeline on it that takes seconds."""

import random

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
