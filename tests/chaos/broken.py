"""Mechanisms broken on purpose: with any of these the suite must fail, so that it is known to bite."""

import os
import time
import types
from collections.abc import Callable
from pathlib import Path

from flops_fit import files
from flops_fit.claims import board
from flops_fit.store import Store


def _replace_in_place_of_link() -> None:
    def overwrite(temporary: Path, path: Path) -> bool:
        temporary.replace(path)
        return True

    files._link = overwrite


def _no_sync() -> None:
    class Unsynced(types.SimpleNamespace):
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

    files.os = Unsynced(fsync=lambda handle: None)


def _wall_clock() -> None:
    board.time = types.SimpleNamespace(monotonic=lambda: time.time())


def _deaf_to_heartbeats() -> None:
    board.read_text = lambda path: ""


def _no_look_after_the_claim() -> None:
    Store.has_result = lambda self, experiment_id: False


MECHANISMS: dict[str, Callable[[], None]] = {
    "link": _replace_in_place_of_link,
    "sync": _no_sync,
    "clock": _wall_clock,
    "heartbeat": _deaf_to_heartbeats,
    "look": _no_look_after_the_claim,
}


def break_mechanism(name: str | None) -> None:
    """Breaks a mechanism in this process, for good; None breaks nothing."""
    if name is not None:
        MECHANISMS[name]()
