"""Verbs of the pipeline: `flops-fit pipeline run`, and one verb for each stage.

This group has exit codes of its own: 1 to 5 by the stage that fails. Wrong flags and values are stage 1.
"""

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from flops_fit.cli.app import AsJson, ConfigDir, Overrides, app
from flops_fit.console import is_main_process, print_definitions, print_json, print_message, print_table
from flops_fit.pipeline.stages import STAGES, StageFailed

if TYPE_CHECKING:
    from flops_fit.pipeline.run import Finished

GROUP = "pipeline"
USAGE = 1
MISSED = 5
EXAMPLES = (
    ("flops-fit pipeline run pipeline=quick --output-dir out/quick", "Everything, in a minute, on generated text."),
    ("flops-fit pipeline tokenizer corpus=stdlib --vocab-size 1000 --output-dir out/code", "One stage, on code."),
)

Epochs = Annotated[
    int | None, typer.Option(help="Passes over the training tokens, from 1; without it, what is optimal.")
]
BatchSize = Annotated[int | None, typer.Option(help="Sequences per step, from 1; also of the sweep.")]
LearningRate = Annotated[
    float | None, typer.Option(help="Peak rate of every run, above 0 to 10; without it, a rule by N.")
]
VocabSize = Annotated[int | None, typer.Option(help="Entries of the tokenizer, from 257.")]
MaxSeqLength = Annotated[int | None, typer.Option(help="Tokens per sequence, 8 to 4096.")]
CorpusPath = Annotated[
    list[str] | None, typer.Option(help="Your UTF-8 text: a file or a folder; may be given several times.")
]
CorpusUrl = Annotated[str | None, typer.Option(help="A text file to download.")]
SkipCorpus = Annotated[bool, typer.Option("--skip-corpus", help="Take the folder's corpus as it is.")]
SkipTokenizer = Annotated[bool, typer.Option("--skip-tokenizer", help="Take the folder's tokenizer as it is.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on in a folder that holds a run.")]
OutputDir = Annotated[str | None, typer.Option(help="Folder for everything that is made.")]
MinFreeGb = Annotated[float | None, typer.Option(help="Free disk space that the folder must have.")]


class PipelineCommand(TyperCommand):
    """A verb of this group; its help ends with presets and two examples."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Adds them."""
        from flops_fit.presets import PIPELINE_GROUPS, preset_names

        super().format_help(ctx, formatter)
        presets = preset_names(groups=PIPELINE_GROUPS)
        print_definitions("Presets (group=name)", [(group, ", ".join(names)) for group, names in presets.items()])
        print_definitions("Examples", EXAMPLES)


pipeline_app = typer.Typer(
    help="From raw text to a small language model: its size chosen by a scaling law of that text, and validated.",
    epilog="Exit codes of this group: 0 done; 1 check, wrong usage or values; 2 corpus; 3 tokenizer, pack; 4 sweep, "
    "fit, train; 5 validate, report; 74 storage; 75 preempted; 130 interrupted.",
    no_args_is_help=True,
)
app.add_typer(pipeline_app, name=GROUP)


def _make_verb(last: str) -> Callable[..., None]:
    def verb(
        overrides: Overrides = None,
        epochs: Epochs = None,
        batch_size: BatchSize = None,
        learning_rate: LearningRate = None,
        vocab_size: VocabSize = None,
        max_seq_length: MaxSeqLength = None,
        corpus_path: CorpusPath = None,
        corpus_url: CorpusUrl = None,
        skip_corpus: SkipCorpus = False,
        skip_tokenizer: SkipTokenizer = False,
        resume: Resume = False,
        output_dir: OutputDir = None,
        min_free_gb: MinFreeGb = None,
        as_json: AsJson = False,
        config_dir: ConfigDir = None,
    ) -> None:
        flags = {
            "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "vocab_size": vocab_size,
            "max_seq_length": max_seq_length, "corpus_path": corpus_path, "corpus_url": corpus_url,
            "skip_corpus": skip_corpus, "skip_tokenizer": skip_tokenizer, "resume": resume,
            "output_dir": output_dir, "min_free_gb": min_free_gb,
        }  # fmt: skip
        _run(last, overrides or [], flags, config_dir, as_json)

    return verb


def _run(last: str, overrides: list[str], flags: dict[str, Any], config_dir: Any, as_json: bool) -> None:
    from flops_fit.errors import ConfigError
    from flops_fit.pipeline.configuration import load_pipeline_config
    from flops_fit.pipeline.run import run_pipeline

    try:
        config = load_pipeline_config(overrides, flags, config_dir=config_dir)
    except ConfigError as error:
        raise StageFailed(f"check: {error}", USAGE) from error
    try:
        with contextlib.redirect_stdout(sys.stderr):  # What a model or a library prints is no result.
            finished = run_pipeline(config, last, ask=_ask if sys.stdin.isatty() and not as_json else None)
    except KeyboardInterrupt:
        print_message(f"Go on with --resume --output-dir {config.output_dir}.")
        raise
    if is_main_process():
        _show(finished, last, as_json)
    if finished.missed is not None:
        raise StageFailed(f"validate: {finished.missed}", MISSED)


def _show(finished: "Finished", last: str, as_json: bool) -> None:
    import json

    from flops_fit.pipeline.run import artifacts

    folder = finished.folder
    if as_json and finished.missed is None:
        if last == "report":
            print_json(json.loads((folder.root / "training_metrics.json").read_text(encoding="utf-8")))
        else:
            record = folder.state.stages[last]
            print_json(
                {
                    "stage": last, "outputs": dict(record.outputs), "skipped": last in finished.unchanged,
                    "seconds": record.seconds, "facts": dict(record.facts),
                }
            )  # fmt: skip
    elif not as_json:
        print_table(("artifact", "size"), artifacts(folder))
        if last == "report":
            print_message(f"report: {folder.root / 'report/index.html'}")


def _ask(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _register() -> None:
    whole = "Make everything: corpus, tokenizer, sweep, law, model, validation, report."
    pipeline_app.command("run", cls=PipelineCommand, help=whole)(_make_verb("report"))
    for stage in STAGES:
        pipeline_app.command(stage.name, cls=PipelineCommand, help=stage.about)(_make_verb(stage.name))


_register()
