"""Settings of a pipeline: its configuration as frozen values, their ranges, and the flags that stand for keys."""

from dataclasses import dataclass, field
from typing import Literal

from flops_fit.errors import ConfigError
from flops_fit.planning.settings import SweepSettings

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
"""Entries of every vocabulary beside the 256 bytes. <unk> is never produced: bytes spell any text."""

FLAGS = {
    "epochs": "pipeline.epochs",
    "batch_size": "pipeline.batch_size",
    "learning_rate": "pipeline.learning_rate",
    "vocab_size": "pipeline.vocab_size",
    "max_seq_length": "pipeline.max_seq_length",
    "corpus_path": "corpus.paths",
    "corpus_url": "corpus.url",
    "skip_corpus": "skip_corpus",
    "skip_tokenizer": "skip_tokenizer",
    "resume": "resume",
    "output_dir": "output_dir",
    "min_free_gb": "min_free_gb",
}
"""Command-line flags by parameter name, and the configuration key that each stands for."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of validation. None: the standard limit, judged only where the corpus is large enough for a sweep."""

    unigram_ratio: float | None = None
    """Held-out bits per byte over those of the unigram model, at most."""
    gap_nats: float | None = None
    """Held-out minus training loss, nats per token, at most."""
    distinct_2: float | None = None
    """Distinct pairs of words over all pairs in the samples, at least."""
    lexicon: float | None = None
    """Share of the samples' words that the training text holds, at least."""
    language: float | None = None
    """Share of samples in the language of their prompt, at least."""
    p95_ms: float = 250.0
    """95th percentile of the time per token, at most."""
    rss_mb: float = 400.0
    """Resident memory of a process that generates, at most."""
    peak_rss_mb: float = 512.0
    """Its peak, at most."""

    @property
    def are_default(self) -> bool:
        """Whether no limit of quality was given by hand."""
        return all(getattr(self, name) is None for name in STANDARD_LIMITS)


STANDARD_LIMITS = {"unigram_ratio": 0.6, "gap_nats": 0.5, "distinct_2": 0.5, "lexicon": 0.7, "language": 0.8}
"""Limits of quality where the configuration holds None."""


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """Which text to train on (configs/corpus)."""

    source: Literal["generated", "opus_books", "stdlib", "files"] = "generated"
    paths: tuple[str, ...] = ()
    """Of ``files``: text files and folders of them."""
    url: str | None = None
    """Of ``files``: a text file to download."""
    dataset: str = "Helsinki-NLP/opus_books"
    """Of ``opus_books``: a name on the hub, or a folder with a local copy."""
    megabytes: float | None = None
    """Text taken at most, evenly over all there is; None: all of it."""
    generator_seed: int = 0
    """Of ``generated``; not the seed of the run, so that several seeds train on one text."""


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """The model, its training, and what it is held to (configs/pipeline)."""

    compute: float = 5.0e12
    """C of the final model, training FLOPs, at most."""
    epochs: int | None = None
    """Passes over the training tokens; None: as many as are optimal at ``compute``."""
    batch_size: int = 8
    """Sequences per optimizer step, also of the sweep."""
    learning_rate: float | None = None
    """Peak rate of every run, also of the sweep; None: a rule by N."""
    vocab_size: int = 512
    """Entries of the tokenizer: 256 bytes, special entries, merges."""
    max_seq_length: int = 64
    """Tokens per sequence; fewer where the held-out text is shorter."""
    schedule: str = "wsd"
    """wsd or cosine, with warmup."""
    min_size: int = 8
    """Smallest ``d_model`` considered for the final model; the sweep has its own range."""
    max_size: int = 256
    """Largest ``d_model`` considered for the final model."""
    eval_samples: int = 2048
    """Held-out sequences of each loss, at most."""
    checkpoint_seconds: float = 5.0
    """Shortest time between two checkpoints of the final training."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuses values out of range, with the flag that sets each."""
        ranges = (
            ("epochs", self.epochs is None or self.epochs >= 1, "a whole number from 1", "--epochs 4"),
            ("batch_size", self.batch_size >= 1, "a whole number from 1", "--batch-size 8"),
            (
                "learning_rate",
                self.learning_rate is None or 0 < self.learning_rate <= 10,
                "a number above 0, up to 10",
                "--learning-rate 0.01",
            ),
            ("vocab_size", self.vocab_size >= 257, "a whole number from 257", "--vocab-size 512"),
            ("max_seq_length", 8 <= self.max_seq_length <= 4096, "8 to 4096", "--max-seq-length 64"),
            ("compute", self.compute > 0, "training FLOPs above 0", "pipeline.compute=5e12"),
            ("schedule", self.schedule in ("wsd", "cosine"), "wsd or cosine", "pipeline.schedule=wsd"),
            ("min_size", self.min_size >= 2, "a whole number from 2", "pipeline.min_size=8"),
            ("max_size", self.max_size >= self.min_size, "at least min_size", "pipeline.max_size=256"),
            ("eval_samples", self.eval_samples >= 1, "a whole number from 1", "pipeline.eval_samples=2048"),
            ("checkpoint_seconds", self.checkpoint_seconds >= 0, "0 or more", "pipeline.checkpoint_seconds=5"),
        )
        for name, holds, expected, remedy in ranges:
            if not holds:
                got = getattr(self, name)
                raise ConfigError(f"pipeline.{name}: got {got!r}, expected {expected}. Try {remedy}.")


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Everything that `flops-fit pipeline` needs (configs/pipeline_run.yaml)."""

    pipeline: PipelineSettings
    corpus: CorpusSettings
    sweep: SweepSettings
    seed: int = 0
    output_dir: str = "outputs/pipeline"
    min_free_gb: float = 0.5
    """Free disk space that the folder must have."""
    skip_corpus: bool = False
    """Whether to take the folder's corpus as it is."""
    skip_tokenizer: bool = False
    """Whether to take the folder's tokenizer as it is."""
    resume: bool = False
    """Whether to go on in a folder that holds a run."""

    def __post_init__(self) -> None:
        """Refuses an empty folder name and a corpus of files without files, or with several sources."""
        if not self.output_dir.strip():
            raise ConfigError("output_dir: got an empty name, expected a folder. Try --output-dir out.")
        if self.min_free_gb < 0:
            raise ConfigError(f"min_free_gb: got {self.min_free_gb}, expected 0 or more. Try --min-free-gb 0.5.")
        named = bool(self.corpus.paths) or self.corpus.url is not None
        if self.corpus.source == "files" and not named and not self.skip_corpus:
            raise ConfigError("corpus=files: got no file, expected at least one. Try --corpus-path FILE.")
        if self.corpus.source != "files" and named:
            raise ConfigError(
                f"corpus={self.corpus.source}: got --corpus-path or --corpus-url beside it, expected one corpus. "
                "Leave one of the two out."
            )
        if self.corpus.megabytes is not None and not self.corpus.megabytes > 0:
            raise ConfigError(f"corpus.megabytes: got {self.corpus.megabytes}, expected a number above 0, or null.")
