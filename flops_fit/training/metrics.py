"""What happened during a run: one JSON line now and then."""

import json
import time
from pathlib import Path
from typing import IO, Self


class MetricsLog:
    """Appends to ``metrics.jsonl``; after a resume, lines of steps that are done again are dropped first."""

    def __init__(self, path: Path, *, first_step: int, active: bool) -> None:
        self._file: IO[str] | None = None
        self._started = time.perf_counter()
        if active:
            kept = [line for line in _whole_lines(path) if json.loads(line)["step"] < first_step]
            self._file = path.open("w", encoding="utf-8")
            self._file.writelines(kept)

    def write(self, step: int, *, loss: float, learning_rate: float, tokens: int, every: int) -> None:
        """Writes a line at each ``every``-th step."""
        if self._file is not None and step % every == 0:
            seconds = round(time.perf_counter() - self._started, 3)
            values = {
                "step": step,
                "tokens": tokens,
                "loss": loss,
                "learning_rate": learning_rate,
                "seconds": seconds,
            }
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _whole_lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # A kill can leave half a line at the end.
    return [line for line in lines if line.endswith("\n")]
