"""Records as JSON files: a schema version, and fields of which a newer version may have added some."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from flops_fit.errors import ConfigError, InputError
from flops_fit.schema import build_record, to_plain

SCHEMA_VERSION = 1
T = TypeVar("T")


def read_record(cls: type[T], path: Path) -> T:
    """Reads a record; fields that this version does not know are ignored.

    Raises:
        InputError: If the file is damaged, or its schema version is not ours.
    """
    return record_from(cls, read_values(path), path)


def read_values(path: Path) -> dict[str, Any]:
    """Reads the fields of a record as plain values, unknown ones included.

    Raises:
        InputError: If the file is damaged, or its schema version is not ours.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        version = values.pop("schema_version")
    except KeyError:
        raise _unreadable(path, "it has no schema_version") from None
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: got schema version {version!r}, this flops-fit reads version {SCHEMA_VERSION}. "
            "Another version of flops-fit wrote it: update flops-fit, and leave the file as it is."
        )
    assert isinstance(values, dict)
    return values


def record_from(cls: type[T], values: Mapping[str, Any], path: Path) -> T:
    """Builds a record from what `read_values` has read from ``path``.

    Raises:
        InputError: If a field is missing or has the wrong type.
    """
    try:
        return build_record(cls, values)
    except (ConfigError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from error


def record_bytes(record: Any) -> bytes:
    """Returns the file of a record, or of its plain values."""
    values = {"schema_version": SCHEMA_VERSION, **to_plain(record)}
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()


def _unreadable(path: Path, problem: object) -> InputError:
    return InputError(
        f"{path}: not a record that this flops-fit can read: {problem}. If a newer version wrote it, update "
        "flops-fit; if it is damaged, restore it from a backup. A damaged result can also be moved out of the "
        "folder: its run is then trained again."
    )


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")
