"""Lexicon of the generated corpus: thousands of stems in each language, with what their agreement needs.

Frequent stems are real words; the long tail is spelled by the sound rules of each language, so that no list of words
has to be stored. A stem of one language has one counterpart in the other.
"""

from dataclasses import dataclass

import numpy as np

from flops_fit.pipeline.generator.words import ADJECTIVES, ADVERBS, NOUNS, VERBS

SIZES = {"nouns": 3000, "verbs": 1100, "adjectives": 900}
"""Stems of each class, in each language."""

EN_ONSETS = (
    *("b", "br", "bl", "c", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j", "k", "l", "m", "n"),
    *("p", "pl", "pr", "r", "s", "sl", "sn", "sp", "st", "str", "t", "th", "tr", "v", "w", "wh"),
)
EN_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ee", "oa", "oo", "ou")
EN_CODAS = (
    *("b", "ck", "d", "ft", "g", "l", "ld", "lk", "ll", "m", "mp", "n", "nd", "ng", "nk", "nt", "p", "r", "rd", "rk"),
    *("rm", "rn", "rt", "sh", "sk", "sp", "st", "t", "th"),
)
EN_TAILS = ("", "", "er", "le", "ow", "en", "et", "ing", "ock", "ard")
ES_ONSETS = ("b", "br", "c", "ch", "d", "f", "fl", "g", "gr", "j", "l", "ll", "m", "n", "p", "pl", "pr", "r", "s", "t",
             "tr", "v", "z")  # fmt: skip
ES_VOWELS = ("a", "e", "i", "o", "u", "ie", "ue")
ES_CODAS = ("", "", "", "n", "r", "l", "s")


@dataclass(frozen=True, kw_only=True)
class Stem:
    """One content word in both languages."""

    english: str
    spanish: str
    feminine: bool = False


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """All stems, most frequent first within each class."""

    nouns: tuple[Stem, ...]
    verbs: tuple[Stem, ...]
    adjectives: tuple[Stem, ...]
    adverbs: tuple[Stem, ...]


def make_lexicon(rng: np.random.Generator) -> Lexicon:
    """Fills each class up to its size with spelled stems; none occurs twice in a language."""
    taken_en: set[str] = set()
    taken_es: set[str] = set()
    classes: dict[str, tuple[Stem, ...]] = {}
    for name, text in (("nouns", NOUNS), ("verbs", VERBS), ("adjectives", ADJECTIVES)):
        stems = [s for s in _parse(text) if s.english not in taken_en and s.spanish not in taken_es]
        taken_en |= {s.english for s in stems}
        taken_es |= {s.spanish for s in stems}
        while len(stems) < SIZES[name]:
            english, (spanish, feminine) = _spell_english(rng), _spell_spanish(rng, name)
            if english not in taken_en and spanish not in taken_es:
                taken_en.add(english)
                taken_es.add(spanish)
                stems.append(Stem(english=english, spanish=spanish, feminine=feminine))
        classes[name] = tuple(stems)
    return Lexicon(**classes, adverbs=tuple(_parse(ADVERBS)))


def _parse(text: str) -> list[Stem]:
    """Reads "english spanish [m|f]; ..."; words marked with a dash inflect irregularly and are left out."""
    stems = []
    for entry in text.replace("\n", " ").split(";"):
        english, spanish, *gender = entry.split()
        if not (english.endswith("-") or spanish.endswith("-")):
            feminine = gender == ["f"] or (not gender and spanish.endswith("a"))
            stems.append(Stem(english=english, spanish=spanish, feminine=feminine))
    return stems


def _spell_english(rng: np.random.Generator) -> str:
    syllable = _pick(rng, EN_ONSETS) + _pick(rng, EN_VOWELS) + _pick(rng, EN_CODAS)
    return syllable + _pick(rng, EN_TAILS)


def _spell_spanish(rng: np.random.Generator, kind: str) -> tuple[str, bool]:
    stem = "".join(
        _pick(rng, ES_ONSETS) + _pick(rng, ES_VOWELS) + _pick(rng, ES_CODAS) for _ in range(int(rng.integers(1, 3)))
    ) + _pick(rng, ES_ONSETS)
    if kind == "verbs":
        return stem + "ar", False
    feminine = kind == "nouns" and bool(rng.random() < 0.5)
    return stem + ("a" if feminine else "o"), feminine


def _pick(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]
