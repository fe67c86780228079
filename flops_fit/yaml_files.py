"""YAML files from strangers: read as text and checked, before anything expands or builds what they describe."""

from pathlib import Path

import yaml  # type: ignore[import-untyped]

from flops_fit.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
# Standard tags of what JSON has, and of the null, int and float that YAML writes differently.
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}


def read_yaml(path: Path) -> str:
    """Returns the text of a YAML file that is a mapping of plain data, of bounded size.

    Raises:
        ConfigError: If it is too large or too deep, is no YAML, or holds references to parts of itself, which a few
            lines can expand to gigabytes, or tags, which name objects to make.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ConfigError(f"{path}: got {size} bytes, expected at most {MAX_BYTES}. Give the file of a sweep's folder.")
    depth, before = 0, None
    try:
        text = path.read_bytes().decode("utf-8-sig")
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(before, yaml.DocumentStartEvent) and not isinstance(event, yaml.MappingStartEvent):
                raise ConfigError(f"{path}: got no mapping, expected settings. Write lines of the form key: value.")
            before = event
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            place = f"{path}, line {event.start_mark.line + 1}"
            if depth > MAX_DEPTH:
                raise ConfigError(f"{place}: more than {MAX_DEPTH} levels deep. Remove what is nested there.")
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(
                    f"{place}: got the alias *{event.anchor}, expected plain values. Write out what it stands for, or "
                    "refer to a key with ${a.b}."
                )
            tag = getattr(event, "tag", None)
            if tag is not None and tag not in _TAGS:
                raise ConfigError(f"{place}: got the tag {tag}, expected plain values. Remove it.")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path}: not readable as YAML: {problem}. Correct it there, or restore the file.") from error
    return text
