"""Lexicon of the generated corpus: thousands of stems in each language, with what their agreement needs.

Frequent stems are real words. The long tail is put together from syllables and endings, as the words of a language are,
so that no list of words has to be stored; most combinations are words, so that a model can learn what a word is.
A stem of one language has one counterpart in the other.
"""

from dataclasses import dataclass

import numpy as np

from flops_fit.pipeline.generator.words import ADJECTIVES, ADVERBS, NOUNS, VERBS

SIZES = {"nouns": 2400, "verbs": 900, "adjectives": 700}
"""Stems of each class, in each language."""

SYLLABLES = 64
"""Syllables of each language that its spelled stems begin with."""

EN_ONSETS = ("b", "br", "c", "cl", "d", "dr", "f", "g", "gr", "h", "l", "m", "n", "p", "pl", "r", "s", "sh", "st", "t",
             "tr", "w")  # fmt: skip
EN_VOWELS = ("a", "e", "i", "o", "u", "ea", "oo")
EN_CODAS = ("", "b", "ck", "d", "l", "m", "n", "nd", "r", "rn", "st", "t")
EN_ENDINGS = {
    "nouns": ("er", "le", "ow", "en", "et", "ing", "ock", "ard", "ness", "ment", "age", "ure", "ity", "ion", "or", "an",
              "ist", "ship", "hood", "dom", "ace", "ent", "ary", "ance", "ic", "el", "in", "um", "us", "ey", "oat",
              "ite", "ane", "ogue", "ard", "ell", "ail", "ade", "ige", "ome", "ost", "ant", "ew", "ull", "irt", "ark",
              "ub", "im", "eck", "ond", "ift"),
    "verbs": ("ate", "ify", "ize", "en", "le", "er", "ish", "eck", "end", "old", "ain", "ime", "oke", "uce", "ade",
              "ount", "urn", "ore", "ail", "ick", "int"),
    "adjectives": ("y", "ish", "ful", "al", "ous", "ic", "ive", "less", "ant", "able", "ern", "id", "en", "ar", "ile",
                   "ate", "ent", "ory"),
}  # fmt: skip
ES_ONSETS = ("b", "br", "c", "ch", "d", "f", "g", "gr", "j", "l", "m", "n", "p", "pl", "r", "s", "t", "tr", "v")
ES_VOWELS = ("a", "e", "i", "o", "u", "ie", "ue")
ES_CODAS = ("", "", "n", "r", "l", "s", "m")
ES_ENDINGS = {
    "nouns": ("er", "ill", "et", "ad", "in", "ot", "ent", "anz", "ist", "ur", "ism", "ic", "on", "al", "ar", "il",
              "am", "uel", "ech", "ast", "ol", "ib", "az", "is", "un", "ac", "ab", "em", "es", "ul", "ut", "ig", "ap",
              "ed", "iv", "od", "os", "id", "om", "uch", "err", "ag", "ost", "av", "it", "ez", "alm", "ind", "og",
              "up", "ibr"),
    "verbs": ("ific", "iz", "e", "ent", "ul", "in", "et", "ast", "on", "and", "ig", "ur", "eg", "ol", "ic", "im", "ot",
              "ech", "ap", "ad", "ill"),
    "adjectives": ("os", "ad", "in", "iv", "er", "ic", "an", "ud", "il", "ar", "ent", "est", "on", "al", "id", "ist",
                   "und", "ax"),
}  # fmt: skip


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
    english = _syllables(rng, EN_ONSETS, EN_VOWELS, EN_CODAS)
    spanish = _syllables(rng, ES_ONSETS, ES_VOWELS, ES_CODAS)
    classes: dict[str, tuple[Stem, ...]] = {}
    for name, text in (("nouns", NOUNS), ("verbs", VERBS), ("adjectives", ADJECTIVES)):
        stems = [s for s in _parse(text) if s.english not in taken_en and s.spanish not in taken_es]
        taken_en |= {s.english for s in stems}
        taken_es |= {s.spanish for s in stems}
        while len(stems) < SIZES[name]:
            feminine = name == "nouns" and bool(rng.random() < 0.5)
            en = _pick(rng, english) + _pick(rng, EN_ENDINGS[name])
            es = _pick(rng, spanish) + _pick(rng, ES_ENDINGS[name])
            es += "ar" if name == "verbs" else ("a" if feminine else "o")
            if en not in taken_en and es not in taken_es:
                taken_en.add(en)
                taken_es.add(es)
                stems.append(Stem(english=en, spanish=es, feminine=feminine))
        classes[name] = tuple(stems)
    return Lexicon(**classes, adverbs=tuple(_parse(ADVERBS)))


def _syllables(
    rng: np.random.Generator, onsets: tuple[str, ...], vowels: tuple[str, ...], codas: tuple[str, ...]
) -> tuple[str, ...]:
    found: list[str] = []
    while len(found) < SYLLABLES:
        syllable = _pick(rng, onsets) + _pick(rng, vowels) + _pick(rng, codas)
        if syllable not in found:
            found.append(syllable)
    return tuple(found)


def _parse(text: str) -> list[Stem]:
    """Reads "english spanish [m|f]; ..."; words marked with a dash inflect irregularly and are left out."""
    stems = []
    for entry in text.replace("\n", " ").split(";"):
        english, spanish, *gender = entry.split()
        if not (english.endswith("-") or spanish.endswith("-")):
            feminine = gender == ["f"] or (not gender and spanish.endswith("a"))
            stems.append(Stem(english=english, spanish=spanish, feminine=feminine))
    return stems


def _pick(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]
