"""Corpus: documents from one source, split into training and held-out side by their content.

A source is a function that yields documents, and an entry in `SOURCES`. None ever stands in for another.
"""

import logging
import sysconfig
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from flops_fit.errors import InputError
from flops_fit.files import replace_file
from flops_fit.pipeline.documents import (
    Document,
    Group,
    read_documents,
    read_groups,
    read_text,
    split_groups,
    thin_out,
    to_lines,
)
from flops_fit.pipeline.generator import generate_documents
from flops_fit.pipeline.settings import CorpusSettings
from flops_fit.pipeline.stages import Context, Outcome
from flops_fit.quantities import count_of, format_bytes

PATH = "corpus/documents.jsonl"
GENERATED_BYTES = 3e6
ATTEMPTS = 3
MAX_DOWNLOAD = 500_000_000
BOOK_PAIRS = 24
"""Neighbouring sentence pairs of a book that make one document."""

logger = logging.getLogger(__name__)


def run(context: Context) -> Outcome:
    """Makes ``corpus/documents.jsonl``, or takes the one that is there."""
    settings, path = context.config.corpus, context.root / PATH
    if context.config.skip_corpus:
        if not path.is_file():
            raise InputError(
                f"corpus: {path} does not exist, expected it with --skip-corpus. Leave out --skip-corpus to make it."
            )
        documents = read_documents(path)
        name = f"{path.name} as it was found"
    else:
        groups = list(SOURCES[settings.source](settings, context.root))
        # The generator stops by itself.
        kept = groups if settings.source == "generated" else thin_out(groups, settings.megabytes)
        if len(kept) < len(groups):
            context.notify(f"takes {len(kept):,} of {len(groups):,} documents: corpus.megabytes={settings.megabytes:g}")
        documents = split_groups(kept, _name(settings))
        replace_file(path, to_lines(documents))
        name = _name(settings)
    facts = describe(documents) | {
        "source": "existing" if context.config.skip_corpus else settings.source,
        "name": name,
        "is_generated": settings.source == "generated" and not context.config.skip_corpus,
    }
    size = format_bytes(facts["bytes"])
    return Outcome(outputs=(PATH,), facts=facts, summary=f"{PATH}, {name}: {len(documents):,} documents, {size}")


def describe(documents: Sequence[Document]) -> dict[str, Any]:
    """Counts documents and bytes by side and language."""
    sizes: Counter[tuple[str, str | None]] = Counter()
    for document in documents:
        sizes[document.split, document.lang] += len(document.text.encode())
    by_side = {side: sum(n for (s, _), n in sizes.items() if s == side) for side in ("train", "val")}
    languages = sorted({d.lang for d in documents if d.lang is not None})
    return {
        "documents": len(documents),
        "train_documents": sum(d.split == "train" for d in documents),
        "val_documents": sum(d.split == "val" for d in documents),
        "bytes": sum(by_side.values()),
        "train_bytes": by_side["train"],
        "val_bytes": by_side["val"],
        "languages": {
            lang: {"train_bytes": sizes["train", lang], "val_bytes": sizes["val", lang]} for lang in languages
        },
    }


def _name(settings: CorpusSettings) -> str:
    if settings.source == "files":
        return ", ".join([*settings.paths, *([settings.url] if settings.url else [])])
    return {
        "generated": "generated English and Spanish text",
        "opus_books": f"opus_books ({settings.dataset})",
        "stdlib": "Python's standard library",
    }[settings.source]


def _generated(settings: CorpusSettings, _: Path) -> Iterator[Group]:
    size = GENERATED_BYTES if settings.megabytes is None else settings.megabytes * 1e6
    return (tuple(document.items()) for document in generate_documents(settings.generator_seed, size))


def _files(settings: CorpusSettings, root: Path) -> Iterable[Group]:
    paths = [Path(p).expanduser() for p in settings.paths]
    if settings.url is not None:
        paths.append(download(settings.url, root / "corpus" / "downloads"))
    return read_groups(paths)


def _stdlib(_: CorpusSettings, __: Path) -> Iterator[Group]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if not {"site-packages", "dist-packages", "test", "tests"} & set(path.relative_to(root).parts):
            try:
                yield ((None, read_text(path)),)
            except InputError:  # A few are in other encodings, on purpose.
                continue


def _opus_books(settings: CorpusSettings, _: Path) -> Iterator[Group]:
    from datasets import load_dataset

    try:
        rows = load_dataset(settings.dataset, "en-es" if not Path(settings.dataset).exists() else None, split="train")
        pairs = [row["translation"] for row in rows]
    except Exception as error:  # The hub's client raises many kinds, of several packages.
        raise InputError(
            f"corpus: {settings.dataset} cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "It needs the network or a local copy (corpus.dataset=/path). Try another corpus: corpus=generated, or "
            "--corpus-path FILE."
        ) from error
    for start in range(0, len(pairs), BOOK_PAIRS):
        part = pairs[start : start + BOOK_PAIRS]
        yield tuple((lang, "\n".join(pair[lang] for pair in part)) for lang in ("en", "es"))


SOURCES: Mapping[str, Callable[[CorpusSettings, Path], Iterable[Group]]] = {
    "generated": _generated,
    "files": _files,
    "stdlib": _stdlib,
    "opus_books": _opus_books,
}


def download(url: str, folder: Path) -> Path:
    """Downloads a text file, in three attempts; one that is there already is taken.

    Raises:
        InputError: If it cannot be had.
    """
    name = PurePosixPath(urllib.request.url2pathname(urllib.parse.urlsplit(url).path)).name or "download.txt"
    path = folder / name
    if path.is_file():
        return path
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                data = answer.read(MAX_DOWNLOAD + 1)
            break
        except (OSError, ValueError) as error:
            if attempt == ATTEMPTS or isinstance(error, (ValueError, urllib.error.HTTPError)):
                raise InputError(
                    f"corpus: {url} cannot be downloaded in {count_of(attempt, 'attempt')} ({error}). Check "
                    "--corpus-url, or try --corpus-path with a file on this machine."
                ) from error
            logger.warning("download failed (%s), next attempt in %d s", error, attempt)
            time.sleep(attempt)
    if len(data) > MAX_DOWNLOAD:
        raise InputError(f"corpus: {url} is larger than {format_bytes(MAX_DOWNLOAD)}. Try --corpus-path with a part.")
    replace_file(path, data)
    return path
