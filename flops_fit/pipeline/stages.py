"""Stages of the pipeline: one registry, in order. A new stage is a file beside this one and an entry in `STAGES`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flops_fit.errors import FlopsFitError

if TYPE_CHECKING:  # The command lists the stages in its help, and numpy would double the time of that.
    from flops_fit.pipeline.settings import PipelineConfig
    from flops_fit.pipeline.state import RunFolder


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a stage is given."""

    config: "PipelineConfig"
    folder: "RunFolder"
    notify: Callable[[str], None]
    """Shows a line of progress."""
    unchanged: frozenset[str] = frozenset()
    """Stages before this one that had nothing to do."""

    @property
    def root(self) -> Path:
        """The output folder."""
        return self.folder.root

    def facts(self, stage: str) -> Mapping[str, Any]:
        """What an earlier stage has found."""
        return self.folder.facts(stage)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage returns."""

    outputs: tuple[str, ...] = ()
    """Files, relative to the folder."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    """For the line that says that it is done."""
    left_out: str | None = None
    """Why the stage did without its work; None where it did it."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: its function is ``run(context)`` in the module of its name."""

    name: str
    exit_code: int
    """Of the command, where this stage fails."""
    about: str
    reads: tuple[str, ...] = ()
    """Earlier stages whose outputs it reads."""
    keys: tuple[str, ...] = ()
    """Configuration that it reads: dotted keys."""
    all_ranks: bool = False
    """Whether every process of a launcher takes part; else the main one alone."""
    always: bool = False
    """Whether it runs each time."""
    workplace: str | None = None
    """A folder with unfinished work, emptied where the input has changed."""

    def run(self, context: Context) -> Outcome:
        """Runs it."""
        outcome: Outcome = import_module(f"flops_fit.pipeline.{self.name}").run(context)
        return outcome


_RECIPE = ("pipeline.batch_size", "pipeline.learning_rate", "pipeline.schedule", "pipeline.eval_samples", "seed")

STAGES: tuple[Stage, ...] = (
    Stage(name="check", exit_code=1, about="Check disk, packages, memory and the settings.", always=True),
    Stage(
        name="corpus", exit_code=2, about="Make or read the corpus, and split it by document.",
        keys=("corpus", "skip_corpus"),
    ),
    Stage(
        name="tokenizer", exit_code=3, about="Train a byte-level BPE tokenizer on the training side.",
        reads=("corpus",), keys=("pipeline.vocab_size", "skip_tokenizer"),
    ),
    Stage(
        name="pack", exit_code=3, about="Encode both sides as packed token files.",
        reads=("corpus", "tokenizer"), keys=("pipeline.max_seq_length",),
    ),
    Stage(
        name="sweep", exit_code=4, about="Train a sweep of small models on the corpus.",
        reads=("tokenizer", "pack"), keys=("sweep", *_RECIPE), all_ranks=True, workplace="sweep",
    ),
    Stage(
        name="fit", exit_code=4, about="Fit scaling laws and choose model size and tokens.",
        reads=("pack", "sweep"),
        keys=("pipeline.compute", "pipeline.epochs", "pipeline.min_size", "pipeline.max_size", *_RECIPE),
    ),
    Stage(
        name="train", exit_code=4, about="Train the chosen model.",
        reads=("tokenizer", "pack", "fit"), keys=_RECIPE, all_ranks=True, workplace="checkpoints",
    ),
    Stage(
        name="validate", exit_code=5, about="Measure the model in a fresh process and judge it by the limits.",
        reads=("corpus", "pack", "train"), keys=("pipeline.limits",),
    ),
    Stage(
        name="report", exit_code=5, about="Write the metrics and the report.",
        reads=("corpus", "tokenizer", "pack", "sweep", "fit", "train", "validate"),
        keys=("pipeline", "corpus", "sweep", "seed"),
    ),
)  # fmt: skip


class StageFailed(FlopsFitError, RuntimeError):
    """A stage of the pipeline has failed; the exit code says which."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
