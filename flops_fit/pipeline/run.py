"""Run: walks through the stages, makes again what has changed, and turns each failure into its stage's exit code."""

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fit.announced import announced_processes
from flops_fit.distributed import World, open_world
from flops_fit.errors import ConfigError, FlopsFitError, PlanMismatch, RankLost, StoreError, format_frames
from flops_fit.files import file_hash
from flops_fit.pipeline.configuration import identity, selected
from flops_fit.pipeline.settings import PipelineConfig
from flops_fit.pipeline.stages import STAGES, Context, Outcome, Stage, StageFailed
from flops_fit.pipeline.state import RunFolder, StageRecord, hash_of, read_state
from flops_fit.pipeline.sweep import is_out_of_memory
from flops_fit.quantities import format_bytes

logger = logging.getLogger(__name__)

Ask = Callable[[str], bool]
"""Puts a question to the user, where there is a terminal."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What `run_pipeline` has done."""

    folder: RunFolder
    unchanged: frozenset[str]
    """Stages that had nothing to do."""
    missed: str | None = None
    """The checks, where validation missed a limit."""


def run_pipeline(config: PipelineConfig, last: str = "report", *, ask: Ask | None = None) -> Finished:
    """Makes everything up to a stage: what is there already from the same input is left as it is.

    Args:
        config: Of the run.
        last: The stage that is wanted; those that it reads are made before it.
        ask: How to ask whether to go on in a folder that holds a run; None refuses it.

    Raises:
        StageFailed: If a stage fails; its ``exit_code`` says which. A missed limit of validation is none: the report
            is still written, and the result says so.
        StoreError: If the disk refuses.
        RankLost: If another process of the launch has ended.
    """
    root = Path(config.output_dir)
    unchanged: set[str] = set()
    # What is raised within a stage passes the outer context as it is.
    with _as_stage(STAGES[0]), open_world() if announced_processes() > 1 else nullcontext(None) as world:
        folder = _agree(world, lambda: _open_folder(root, config, last, ask))
        for stage in needed_for(last):
            with _as_stage(stage):
                if _run_stage(stage, config, folder, world, frozenset(unchanged)):
                    unchanged.add(stage.name)
    missed = folder.facts("validate").get("missed") if last in ("validate", "report") else None
    return Finished(folder=folder, unchanged=frozenset(unchanged), missed=missed)


def _open_folder(root: Path, config: PipelineConfig, last: str, ask: Ask | None) -> RunFolder:
    check_folder(root, config, last, ask)
    return RunFolder(root, identity(config))


def needed_for(last: str) -> list[Stage]:
    """The stages up to one, without those that it does not read."""
    names = {last, STAGES[0].name}
    for stage in reversed(STAGES):
        if stage.name in names:
            names |= set(stage.reads)
    return [stage for stage in STAGES if stage.name in names]


def check_folder(root: Path, config: PipelineConfig, last: str, ask: Ask | None) -> None:
    """Refuses a folder that holds a run, or one of another configuration, unless it is to be resumed.

    Raises:
        ConfigError: If it may not be written to.
    """
    if root.exists() and not root.is_dir():
        raise ConfigError(f"output_dir: got {root}, a file, expected a folder. Try --output-dir with another name.")
    state = read_state(root)
    if state is None or config.resume:
        return
    expected = "expected a new folder. Try --resume to go on with it, or a new folder: --output-dir NEW"
    taken = (
        {"check"} | ({"corpus"} if config.skip_corpus else set()) | ({"tokenizer"} if config.skip_tokenizer else set())
    )
    if hash_of(state.config) != hash_of(identity(config)):
        problem = f"{root} holds a run of another configuration"
    elif last == "report" and set(state.stages) - taken:
        problem = f"{root} holds a run already"
    else:
        return
    if ask is None:
        raise ConfigError(f"output_dir: {problem}, {expected}.")
    if not ask(f"{problem}. Go on with it, and make again only what has changed?"):
        raise ConfigError(f"output_dir: {problem}, and it is not to be resumed. Try a new folder: --output-dir NEW.")


def artifacts(folder: RunFolder) -> list[tuple[str, str]]:
    """The files that the stages have made, with their sizes."""
    paths = [path for record in folder.state.stages.values() for path in record.outputs]
    return [
        (path, format_bytes((folder.root / path).stat().st_size)) for path in paths if (folder.root / path).is_file()
    ]


def input_hash(stage: Stage, config: PipelineConfig, folder: RunFolder) -> str:
    """Hash of what a stage reads: keys of the configuration, and what earlier stages have made."""
    read: dict[str, Any] = {}
    for name in stage.reads:
        record = folder.record(name)
        if record is not None:
            read[name] = {"outputs": record.outputs, "left_out": record.facts.get("left_out")}
            if stage.name == "report":
                read[name] |= {"input": record.input_hash, "facts": record.facts, "seconds": record.seconds}
    values: dict[str, Any] = {"keys": selected(config, stage.keys), "read": read}
    if stage.name == "corpus" and not config.skip_corpus:
        values["files"] = {path: _content_hash(Path(path).expanduser()) for path in config.corpus.paths}
    if stage.name == "corpus" and config.skip_corpus:
        values["found"] = file_hash(folder.root / "corpus/documents.jsonl")
    if stage.name == "tokenizer" and config.skip_tokenizer:
        values["found"] = file_hash(folder.root / "tokenizer/tokenizer.json")
    return hash_of(values)


def _content_hash(path: Path) -> Any:
    if path.is_dir():
        return {str(p.relative_to(path)): file_hash(p) for p in sorted(path.rglob("*")) if p.is_file()}
    return file_hash(path)


def _run_stage(
    stage: Stage, config: PipelineConfig, folder: RunFolder, world: World | None, unchanged: frozenset[str]
) -> bool:
    """Runs one stage; returns whether there was nothing to do."""
    is_main = world is None or world.is_main
    position = f"[{STAGES.index(stage) + 1}/{len(STAGES)}] {stage.name}"

    def notify(message: str) -> None:
        if is_main:
            print(message, file=sys.stderr, flush=True)  # noqa: T201

    key, is_current = _agree(world, lambda: _look(stage, config, folder))
    if is_current:
        notify(f"{position} unchanged")
        return True
    notify(position)
    started = time.perf_counter()
    if is_main:
        _begin(stage, folder, key)
    context = Context(
        config=config, folder=folder, notify=lambda message: notify(f"{position}: {message}"), unchanged=unchanged
    )
    if stage.all_ranks:
        outcome = stage.run(context)
        outcome = outcome if world is None else world.agree(outcome)
    else:
        outcome = _agree(world, lambda: stage.run(context))
    seconds = time.perf_counter() - started
    record = StageRecord(
        input_hash=key, done=True, seconds=round(seconds, 3), facts={**outcome.facts, **_left_out(outcome)},
        outputs={path: str(file_hash(folder.root / path)) for path in outcome.outputs},
    )  # fmt: skip
    folder.write(stage.name, record, to_disk=is_main)
    if outcome.left_out is not None:
        notify(f"{position} left out: {outcome.left_out}")
    else:
        notify(f"{position} done in {seconds:.1f} s: {outcome.summary}")
    return False


def _look(stage: Stage, config: PipelineConfig, folder: RunFolder) -> tuple[str, bool]:
    key = input_hash(stage, config, folder)
    return key, not stage.always and folder.is_current(stage.name, key)


def _begin(stage: Stage, folder: RunFolder, key: str) -> None:
    """Notes that a stage has begun; unfinished work of another input is removed first."""
    before = folder.record(stage.name)
    if stage.workplace is not None and (before is None or before.input_hash != key):
        shutil.rmtree(folder.root / stage.workplace, ignore_errors=True)
    folder.write(stage.name, StageRecord(input_hash=key))


def _left_out(outcome: Outcome) -> dict[str, Any]:
    return {} if outcome.left_out is None else {"left_out": outcome.left_out}


def _agree(world: World | None, act: Callable[[], Any]) -> Any:
    """Lets the main process act; all processes return what it returned, or fail as it failed."""
    if world is None:
        return act()
    value: Any = None
    problem: BaseException | None = None
    if world.is_main:
        try:
            value = act()
        except Exception as error:
            problem = error
    value, message = world.agree((value, None if problem is None else str(problem)))
    if problem is not None:
        raise problem
    if message is not None:
        raise ConfigError(message)
    return value


@contextmanager
def _as_stage(stage: Stage) -> Iterator[None]:
    """Turns what is raised within into the failure of a stage; storage and lost ranks keep codes of their own."""
    try:
        yield
    except (StageFailed, RankLost):
        raise
    except PlanMismatch as error:
        raise StageFailed(f"{stage.name}: {error}", stage.exit_code) from error
    except StoreError:
        raise
    except FlopsFitError as error:
        raise StageFailed(f"{stage.name}: {error}", stage.exit_code) from error
    except OSError as error:
        if error.filename is None:
            raise StageFailed(_unexpected(stage, error), stage.exit_code) from error
        raise
    except Exception as error:
        raise StageFailed(_unexpected(stage, error), stage.exit_code) from error


def _unexpected(stage: Stage, error: Exception) -> str:
    if is_out_of_memory(f"{type(error).__name__}: {error}"):
        return f"{stage.name}: out of memory ({error}). Try a smaller --batch-size, --max-seq-length or --vocab-size."
    place = "".join(f" ({frame})" for frame in format_frames(error, last=1))
    return (
        f"{stage.name}: {type(error).__name__}: {error}{place}. This was not expected: run again with --resume and "
        "FLOPS_FIT_DEBUG=1 for the traceback, and report it."
    )
