"""Paths of a command line, checked before anything is computed or written."""

from pathlib import Path

from flops_fit.errors import ConfigError, InputError

REPORT_SUFFIXES = (".html", ".htm")
RUNS_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".gz")


def check_source(path: Path) -> None:
    """Refuses a folder that holds no sweep, and names the files of runs in it.

    Raises:
        InputError: If it is such a folder.
    """
    if not path.is_dir() or (path / "plan.json").is_file():
        return
    tables = sorted(p.name for p in path.iterdir() if p.suffix in RUNS_SUFFIXES)
    hint = f" It holds {', '.join(tables[:3])}: give such a file, {path / tables[0]}." if tables else ""
    raise InputError(
        f"{path}: got a folder without plan.json, expected one made by `flops-fit run`, or a file of runs.{hint}"
    )


def check_sweep_folder(path: Path) -> None:
    """Refuses a path that is not a folder; `open_store` looks for the plan in it.

    Raises:
        InputError: If it does not exist or is a file.
    """
    if not path.exists():
        raise InputError(f"{path}: no such folder. Give the folder of a sweep, the out=DIR of `flops-fit run`.")
    if not path.is_dir():
        raise InputError(f"{path}: got a file. Give the folder of a sweep, the out=DIR of `flops-fit run`.")


def check_output_folder(name: str) -> None:
    """Refuses an output folder that cannot be made or that would mix with something else.

    Raises:
        ConfigError: If the name is empty, or it or a part of it is a file.
    """
    path = Path(name)
    if not name.strip():
        raise ConfigError("out: got an empty name, expected a folder. Give one with out=DIR.")
    if path.is_symlink() and not path.exists():
        raise ConfigError(f"out: {name} is a link to {path.readlink()}, which does not exist. Give another out=DIR.")
    _refuse_files_above(path, "out:", "Give another out=DIR")
    if path.exists() and not path.is_dir():
        raise ConfigError(
            f"out: {name} is a file, expected a folder: a new one, or one of a sweep. Give another out=DIR."
        )


def check_output_file(path: Path, *, option: str = "--out") -> None:
    """Refuses a file that a report must not be written to; an earlier .html file may be replaced.

    Raises:
        ConfigError: If the path is a link, a device, a folder, or named like another kind of file.
    """
    remedy = f"Give the name of an .html file, such as {option} report.html"
    if str(path) == "-":
        raise ConfigError(f"{option} -: the report is a file and cannot go to stdout. {remedy}.")
    if path.is_symlink():
        raise ConfigError(f"{option} {path}: is a link to {path.readlink()}, and a link is not replaced. {remedy}.")
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a folder. Give a file in it: {option} {path / 'report.html'}.")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{option} {path}: is a device or a pipe, not a file. {remedy}.")
    if path.suffix.lower() not in REPORT_SUFFIXES:
        raise ConfigError(f"{option} {path}: the report is HTML, and other files are not replaced. {remedy}.")
    _refuse_files_above(path, option, remedy)


def _refuse_files_above(path: Path, option: str, remedy: str) -> None:
    for parent in path.absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                raise ConfigError(f"{option} {path}: {parent} is a file, not a folder. {remedy}.")
            return
