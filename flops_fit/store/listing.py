"""Listings of a sweep's folder: which runs have a result, which attempts at them there are. Nothing is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Ids of runs, which name files."""
_RESULT = re.compile(rf"({ID.pattern})\.json")
_ATTEMPT = re.compile(rf"({ID.pattern})\.([1-9][0-9]{{0,8}})\.json")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What is in a folder, by the names of its files. A cached listing is late, never wrong."""

    results: frozenset[str]
    claims: Mapping[str, frozenset[int]]
    """Numbers of the attempts at each run."""
    ends: Mapping[str, frozenset[int]]
    """Of these, the ones that have ended without a result."""

    def newest(self, experiment_id: str) -> int:
        """Returns the number of the newest attempt at a run, ended or not; 0 without any."""
        none: frozenset[int] = frozenset()
        return max(self.claims.get(experiment_id, none) | self.ends.get(experiment_id, none), default=0)

    def has_ended(self, experiment_id: str, attempt: int) -> bool:
        """Whether an attempt has ended without a result."""
        return attempt in self.ends.get(experiment_id, ())


def list_folder(root: Path) -> Listing:
    """Lists the folder of a sweep."""
    results = (match[1] for name in _names(root / "results") if (match := _RESULT.fullmatch(name)))
    return Listing(results=frozenset(results), claims=_attempts(root / "claims"), ends=_attempts(root / "ends"))


def _attempts(folder: Path) -> dict[str, frozenset[int]]:
    found: dict[str, frozenset[int]] = {}
    for name in _names(folder):
        if match := _ATTEMPT.fullmatch(name):
            found[match[1]] = found.get(match[1], frozenset()) | {int(match[2])}
    return found


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
