"""Documents of a corpus: reading users' text, splitting it by content, and the file ``corpus/documents.jsonl``."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flops_fit.errors import InputError

HELD_OUT = 0.1
MIN_BYTES = 500
MIN_PARAGRAPHS = 10
"""A text file with fewer paragraphs is read by lines."""
SUFFIXES = (".txt", ".md")
_LANGUAGE = re.compile(r"\.([a-z]{2})\.(?:txt|md)$")


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text, in one language, on one side of the split."""

    text: str
    lang: str | None
    split: str


Group = tuple[tuple[str | None, str], ...]
"""One document in all its languages: (language, text) of each."""


def read_groups(paths: Sequence[Path]) -> list[Group]:
    """Reads text files (documents are paragraphs) and folders of them (documents are files).

    Raises:
        InputError: If a path is missing, not UTF-8, or holds no text.
    """
    groups: list[Group] = []
    files = [path for path in paths if path.is_file()]
    for stem, parts in _by_stem(files).items():
        groups += _paragraph_groups(stem, parts)
    for path in paths:
        if path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if p.suffix in SUFFIXES and p.is_file()]
            if not found:
                raise InputError(
                    f"corpus: {path} holds no {' or '.join(SUFFIXES)} file, expected some. Try --corpus-path FILE."
                )
            groups += [tuple((language_of(p), read_text(p)) for p in part) for part in _by_stem(found).values()]
        elif not path.is_file():
            raise InputError(f"corpus: {path} does not exist, expected a text file or a folder. Check --corpus-path.")
    return groups


def read_text(path: Path) -> str:
    """Reads a UTF-8 file; line ends become newlines."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"corpus: {path} is not UTF-8 (byte {error.start}), expected UTF-8 text. "
            "Convert it (`iconv -f LATIN1 -t UTF-8`), or try another --corpus-path."
        ) from error
    except OSError as error:
        raise InputError(f"corpus: {path} cannot be read ({error.strerror}). Check --corpus-path.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def language_of(path: Path) -> str | None:
    """The language that a file's name states: "en" of "book.en.txt"."""
    found = _LANGUAGE.search(path.name)
    return found.group(1) if found else None


def split_groups(groups: Iterable[Group], source: str) -> list[Document]:
    """Puts a tenth of the text on the held-out side: the documents with the lowest hashes of their content.

    All languages of a document, and all copies of it, come to one side. A training text that also stands in a held-out
    document is left out.

    Raises:
        InputError: If there is too little text, or only one document.
    """
    found = [group for group in groups if any(text.strip() for _, text in group)]
    size = sum(_size(group) for group in found)
    distinct = {_hash(group): group for group in found}
    if size < MIN_BYTES or len(distinct) < 2:
        raise InputError(
            f"corpus: {source} is too small: {size} bytes of text in {len(distinct)} distinct documents, expected at "
            f"least {MIN_BYTES} bytes and 2 documents. Try --corpus-path with more text; a file's documents are its "
            "paragraphs, a folder's are its files."
        )
    held_out: set[str] = set()
    strata: dict[tuple[str, ...], list[str]] = {}
    copies: dict[str, int] = {}
    for group in found:
        copies[_hash(group)] = copies.get(_hash(group), 0) + 1
    for key, group in distinct.items():
        strata.setdefault(tuple(str(lang) for lang, _ in group), []).append(key)
    for keys in strata.values():
        held_out |= _lowest_tenth({key: _size(distinct[key]) * copies[key] for key in keys})
    if not held_out:  # Each kind of document once.
        held_out = {min(distinct)}
    kept_apart = {text for key in held_out for _, text in distinct[key]}
    return [
        Document(text=text, lang=lang, split="val" if _hash(group) in held_out else "train")
        for group in found
        for lang, text in group
        if text.strip() and (_hash(group) in held_out or text not in kept_apart)
    ]


def thin_out(groups: Iterable[Group], megabytes: float | None) -> list[Group]:
    """Returns so many megabytes of the groups, evenly spaced over all, so that every file and language keeps its share.

    Args:
        groups: In any order; all of them where they hold less.
        megabytes: None for all.
    """
    found = list(groups)
    total = sum(_size(group) for group in found)
    if megabytes is None or total <= megabytes * 1e6:
        return found
    share, seen, taken = megabytes * 1e6 / total, 0, 0
    kept = []
    for group in found:
        seen += _size(group)
        if taken + _size(group) / 2 <= share * seen:
            kept.append(group)
            taken += _size(group)
    return kept


def to_lines(documents: Iterable[Document]) -> bytes:
    """Writes documents as JSON lines."""
    rows = ({"text": d.text, "lang": d.lang, "split": d.split} for d in documents)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def read_documents(path: Path) -> list[Document]:
    """Reads ``documents.jsonl``.

    Raises:
        InputError: If a line is not a document, or a side is empty.
    """
    documents = []
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                documents.append(Document(text=row["text"], lang=row["lang"], split=row["split"]))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"corpus: {path}, line {number}: got {line[:60]!r}, expected an object with text, lang and split. "
                    "Leave out --skip-corpus to make it anew."
                ) from error
    if {d.split for d in documents} != {"train", "val"}:
        raise InputError(
            f"corpus: {path} has documents of split {sorted({str(d.split) for d in documents})}, expected train and "
            "val. Leave out --skip-corpus to make it anew."
        )
    return documents


def texts_of(documents: Iterable[Document], split: str, lang: str | None = None) -> list[str]:
    """The texts of one side, in one language where ``lang`` is given."""
    return [d.text for d in documents if d.split == split and lang in (None, d.lang)]


def _by_stem(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by their path without language: book.en.txt and book.es.txt are one document in two languages."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        name = str(path)
        if language_of(path):
            name = _LANGUAGE.sub("", name)
        found.setdefault(name, []).append(path)
    return found


def _paragraph_groups(stem: str, paths: Sequence[Path]) -> list[Group]:
    parts = {path: _paragraphs(read_text(path)) for path in paths}
    for path, paragraphs in parts.items():
        if not paragraphs:
            raise InputError(f"corpus: {path} is empty, expected text. Try another --corpus-path.")
    if len({len(paragraphs) for paragraphs in parts.values()}) == 1:
        languages = [language_of(path) for path in paths]
        return [tuple(zip(languages, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    # Of unequal numbers no paragraph can be said to be another's translation.
    return [((language_of(path), text),) for path, paragraphs in parts.items() for text in paragraphs]


def _paragraphs(text: str) -> list[str]:
    found = [p.strip("\n") for p in re.split(r"\n[ \t]*\n", text)]
    found = [p for p in found if p.strip()]
    return found if len(found) >= MIN_PARAGRAPHS else [line for line in text.splitlines() if line.strip()]


def _lowest_tenth(sizes: dict[str, int]) -> set[str]:
    """The lowest hashes that come nearest to a tenth of the text: at least one, and not all."""
    goal, taken, total = HELD_OUT * sum(sizes.values()), set[str](), 0
    for key in sorted(sizes)[: len(sizes) - 1]:
        if taken and total + sizes[key] / 2 > goal:
            break
        taken.add(key)
        total += sizes[key]
    return taken


def _size(group: Group) -> int:
    return sum(len(text.encode()) for _, text in group)


def _hash(group: Group) -> str:
    return hashlib.sha256("\0".join(text for _, text in group).encode()).hexdigest()
