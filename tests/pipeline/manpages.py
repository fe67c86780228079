"""Real bilingual text: the manual pages of Debian's packages, downloaded by apt and never stored in the repository."""

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = {"en": "manpages", "es": "manpages-es"}
COMMON = {
    "en": {"the", "of", "to", "is", "and", "in", "that", "this", "for", "be"},
    "es": {"de", "la", "el", "que", "en", "los", "se", "del", "un", "una", "las"},
}
ROOTS = {"en": "usr/share/man", "es": "usr/share/man/es"}
SECTIONS = ("man1", "man2", "man3", "man4", "man5", "man7", "man8")
_FONT = re.compile(r"\\f(?:\[[^]]*\]|\(..|.)|\\s[-+]?\d+|\\&|\\/|\\,|\\:|\\%|\\c")
_NAMED = {r"\-": "-", r"\(aq": "'", r"\(dq": '"', r"\e": "\\", r"\(bu": "*", r"\(em": "-", r"\(en": "-", r"\ ": " "}


def fetch_manpages(folder: Path) -> Path:
    """Downloads and unpacks both packages; returns a folder with a text of each; skips where it cannot."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        pytest.skip("real text: there is no apt-get here")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["apt-get", "download", *PACKAGES.values()], cwd=folder, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        pytest.skip(f"real text: apt-get download failed: {done.stderr.strip().splitlines()[-1:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "unpacked"], check=True)
    (folder / "text").mkdir(exist_ok=True)
    for lang, root in ROOTS.items():
        found: dict[str, None] = {}
        for section in SECTIONS:
            for page in sorted((folder / "unpacked" / root / section).glob("*.gz")):
                found |= dict.fromkeys(paragraphs(gzip.decompress(page.read_bytes()).decode("utf-8", "replace")))
        prose = [text for text in found if is_prose(text, lang)]
        (folder / "text" / f"manpages.{lang}.txt").write_text("\n\n".join(prose) + "\n", encoding="utf-8")
    return folder / "text"


def paragraphs(roff: str) -> list[str]:
    """The paragraphs of prose of a manual page: no macros, headings, tables or code."""
    blocks: list[list[str]] = [[]]
    for line in roff.splitlines():
        if line.startswith((".", "'")):
            found = re.match(r"\.(?:B|I|BR|IR|RB|RI|BI|IB)\s+(.*)", line)
            if not found:
                blocks.append([])
                continue
            line = found.group(1).replace('"', "")
        line = _FONT.sub("", line)
        for name, text in _NAMED.items():
            line = line.replace(name, text)
        if not line.strip():
            blocks.append([])
        elif "\\" not in line:
            blocks[-1].append(line.strip())
    texts = [" ".join(block) for block in blocks]
    return [text for text in texts if len(text) > 80 and sum(c.isalpha() or c == " " for c in text) > 0.85 * len(text)]


def is_prose(text: str, lang: str) -> bool:
    """Whether a paragraph reads as one of its language: Spanish pages hold English ones that nobody has translated."""
    words = text.casefold().split()
    return sum(word in COMMON[lang] for word in words) > 0.12 * len(words)
