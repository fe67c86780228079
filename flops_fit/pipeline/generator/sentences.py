"""Sentences of the generated corpus, each written in both languages at once with agreement in number and gender."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flops_fit.pipeline.generator import inflection as inflect
from flops_fit.pipeline.generator.words import NAMES, NUMBERS

if TYPE_CHECKING:
    from flops_fit.pipeline.generator.documents import Writer

Pair = tuple[str, str]
"""English, Spanish."""

PLACES = (("in", "en"), ("near", "cerca de"), ("behind", "detrás de"), ("under", "debajo de"), ("with", "con"),
          ("without", "sin"), ("in front of", "delante de"), ("above", "sobre"), ("for", "para"))  # fmt: skip
OPENINGS = (("In the morning", "Por la mañana"), ("At night", "Por la noche"), ("Every day", "Todos los días"),
            ("After the war", "Después de la guerra"), ("In those years", "En aquellos años"),
            ("Last week", "La semana pasada"), ("From time to time", "De vez en cuando"),
            ("That year", "Aquel año"), ("Before dinner", "Antes de la cena"))  # fmt: skip
JOINTS = (("and", "y"), ("but", "pero"), ("because", "porque"), ("while", "mientras"), ("so", "así que"),
          ("when", "cuando"), ("before", "antes de que"), ("as if", "como si"))  # fmt: skip
MODALS = (("can", "puede", "pueden"), ("must", "debe", "deben"), ("will", "va a", "van a"),
          ("could", "podía", "podían"), ("would like to", "quisiera", "quisieran"),
          ("had to", "tenía que", "tenían que"))  # fmt: skip
PRONOUNS = (("he", "él", False), ("she", "ella", False), ("they", "ellos", True), ("everyone", "cada uno", False),
            ("nobody", "nadie", False), ("somebody", "alguien", False))  # fmt: skip
DETERMINERS = (
    # English singular, plural; Spanish masculine, feminine, each singular and plural.
    ("the", "the", "el", "los", "la", "las"),
    ("this", "these", "este", "estos", "esta", "estas"),
    ("that", "those", "ese", "esos", "esa", "esas"),
    ("his", "his", "su", "sus", "su", "sus"),
    ("our", "our", "nuestro", "nuestros", "nuestra", "nuestras"),
    ("a", "some", "un", "unos", "una", "unas"),
    ("another", "other", "otro", "otros", "otra", "otras"),
)
DETERMINER_WEIGHTS = (0.5, 0.06, 0.05, 0.07, 0.05, 0.22, 0.05)
NUM_DEFINITE = 5
"""The first so many are definite."""


@dataclass(frozen=True)
class NounPhrase:
    """A noun phrase in both languages, and what agrees with it."""

    english: str
    spanish: str
    plural: bool
    feminine: bool


def write(writer: "Writer") -> Pair:
    """Writes one sentence, with its capital and full stop."""
    english, spanish = FORMS[int(writer.rng.choice(len(FORMS), p=WEIGHTS))](writer)
    return english[0].upper() + english[1:] + ".", spanish[0].upper() + spanish[1:] + "."


def _noun_phrase(writer: "Writer", *, definite: bool | None = None) -> NounPhrase:
    noun, plural = writer.noun(), bool(writer.rng.random() < 0.35)
    definite = bool(writer.rng.random() < 0.7) if definite is None else definite
    en = inflect.english_plural(noun.english) if plural else noun.english
    es = inflect.spanish_plural(noun.spanish) if plural else noun.spanish
    if writer.rng.random() < 0.3:
        adjective = writer.adjective()
        en = f"{adjective.english} {en}"
        es += " " + inflect.spanish_adjective(adjective.spanish, feminine=noun.feminine, plural=plural)
    determiner = DETERMINERS[_draw_determiner(writer, definite)]
    article = determiner[plural]
    if article == "a" and en[0] in "aeiou":
        article = "an"
    return NounPhrase(f"{article} {en}", f"{determiner[2 + 2 * noun.feminine + plural]} {es}", plural, noun.feminine)


def _draw_determiner(writer: "Writer", definite: bool) -> int:
    if definite:
        weights = np.array(DETERMINER_WEIGHTS[:NUM_DEFINITE])
        return int(np.searchsorted(np.cumsum(weights / weights.sum()), writer.rng.random()))
    return int(writer.rng.integers(NUM_DEFINITE, len(DETERMINERS)))


def _after(preposition: str, phrase: str) -> str:
    """Joins a Spanish preposition and a phrase: "de el" is "del", "a el" is "al"."""
    if phrase.startswith("el ") and preposition.endswith("de"):
        return f"{preposition[:-2]}del {phrase[3:]}"
    if phrase.startswith("el ") and preposition == "a":
        return f"al {phrase[3:]}"
    return f"{preposition} {phrase}"


def _place(writer: "Writer") -> Pair:
    (en, es), phrase = PLACES[int(writer.rng.integers(len(PLACES)))], _noun_phrase(writer, definite=True)
    return f"{en} {phrase.english}", _after(es, phrase.spanish)


def _verb(writer: "Writer", subject: NounPhrase, *, past: bool) -> Pair:
    verb = writer.verb()
    if past:
        return inflect.english_past(verb.english), inflect.spanish_past(verb.spanish, plural=subject.plural)
    en = verb.english if subject.plural else inflect.english_third(verb.english)
    return en, inflect.spanish_present(verb.spanish, plural=subject.plural)


def _clause(writer: "Writer", *, past: bool | None = None) -> Pair:
    past = bool(writer.rng.random() < 0.6) if past is None else past
    subject, thing = _noun_phrase(writer), _noun_phrase(writer)
    en, es = _verb(writer, subject, past=past)
    return f"{subject.english} {en} {thing.english}", f"{subject.spanish} {es} {thing.spanish}"


def _with_place(writer: "Writer") -> Pair:
    (en, es), (en_place, es_place) = _clause(writer), _place(writer)
    return f"{en} {en_place}", f"{es} {es_place}"


def _opened(writer: "Writer") -> Pair:
    (en_open, es_open), (en, es) = OPENINGS[int(writer.rng.integers(len(OPENINGS)))], _clause(writer, past=True)
    return f"{en_open}, {en}", f"{es_open}, {es}"


def _joined(writer: "Writer") -> Pair:
    past = bool(writer.rng.random() < 0.6)
    (en, es), (en_joint, es_joint) = _clause(writer, past=past), JOINTS[int(writer.rng.integers(len(JOINTS)))]
    en_2, es_2 = _clause(writer, past=past)
    comma = "," if en_joint in ("but", "so") else ""
    return f"{en}{comma} {en_joint} {en_2}", f"{es}{comma} {es_joint} {es_2}"


def _being(writer: "Writer") -> Pair:
    subject, adjective = _noun_phrase(writer, definite=True), writer.adjective()
    past = bool(writer.rng.random() < 0.5)
    en = (("is", "are"), ("was", "were"))[past][subject.plural]
    es = (("es", "son"), ("era", "eran"))[past][subject.plural]
    agreed = inflect.spanish_adjective(adjective.spanish, feminine=subject.feminine, plural=subject.plural)
    return f"{subject.english} {en} very {adjective.english}", f"{subject.spanish} {es} muy {agreed}"


def _counted(writer: "Writer") -> Pair:
    (en, es), noun = NUMBERS[int(writer.rng.integers(len(NUMBERS)))], writer.noun()
    en_place, es_place = _place(writer)
    return (
        f"there are {en} {inflect.english_plural(noun.english)} {en_place}",
        f"hay {es} {inflect.spanish_plural(noun.spanish)} {es_place}",
    )


def _said(writer: "Writer") -> Pair:
    name, (en, es) = NAMES[int(writer.rng.integers(len(NAMES)))], _clause(writer)
    if writer.rng.random() < 0.5:
        return f"{name} said that {en}", f"{name} dijo que {es}"
    return f"{name} knows that {en}", f"{name} sabe que {es}"


def _manner(writer: "Writer") -> Pair:
    (en, es), adverb = _clause(writer), writer.adverb()
    return f"{en} {adverb.english}", f"{es} {adverb.spanish}"


def _question(writer: "Writer") -> Pair:
    subject, verb, thing = _noun_phrase(writer, definite=True), writer.verb(), _noun_phrase(writer, definite=True)
    en = f"nobody asked why {subject.english} {inflect.english_past(verb.english)} {thing.english}"
    es = f"nadie preguntó por qué {subject.spanish} {inflect.spanish_past(verb.spanish, plural=subject.plural)}"
    return en, f"{es} {thing.spanish}"


def _part(writer: "Writer") -> Pair:
    one, other = _noun_phrase(writer, definite=True), _noun_phrase(writer, definite=True)
    en, es = _verb(writer, one, past=True)
    third = _noun_phrase(writer)
    return (
        f"{one.english} of {other.english} {en} {third.english}",
        f"{one.spanish} {_after('de', other.spanish)} {es} {third.spanish}",
    )


def _modal(writer: "Writer") -> Pair:
    en_modal, *es_modals = MODALS[int(writer.rng.integers(len(MODALS)))]
    subject, verb, thing = _noun_phrase(writer), writer.verb(), _noun_phrase(writer)
    return (
        f"{subject.english} {en_modal} {verb.english} {thing.english}",
        f"{subject.spanish} {es_modals[subject.plural]} {verb.spanish} {thing.spanish}",
    )


def _pronoun(writer: "Writer") -> Pair:
    en, es, plural = PRONOUNS[int(writer.rng.integers(len(PRONOUNS)))]
    verb, thing, (en_place, es_place) = writer.verb(), _noun_phrase(writer), _place(writer)
    past = inflect.spanish_past(verb.spanish, plural=plural)
    return (
        f"{en} {inflect.english_past(verb.english)} {thing.english} {en_place}",
        f"{es} {past} {thing.spanish} {es_place}",
    )


def _denied(writer: "Writer") -> Pair:
    subject, verb, thing = _noun_phrase(writer), writer.verb(), _noun_phrase(writer)
    en = "do not" if subject.plural else "does not"
    present = inflect.spanish_present(verb.spanish, plural=subject.plural)
    return f"{subject.english} {en} {verb.english} {thing.english}", f"{subject.spanish} no {present} {thing.spanish}"


def _compared(writer: "Writer") -> Pair:
    one, adjective, other = _noun_phrase(writer, definite=True), writer.adjective(), _noun_phrase(writer, definite=True)
    agreed = inflect.spanish_adjective(adjective.spanish, feminine=one.feminine, plural=one.plural)
    en, es = ("are", "son") if one.plural else ("is", "es")
    return (
        f"{one.english} {en} as {adjective.english} as {other.english}",
        f"{one.spanish} {es} tan {agreed} como {other.spanish}",
    )


FORMS: tuple[Callable[["Writer"], Pair], ...] = (
    _clause, _with_place, _opened, _joined, _being, _counted, _said, _manner, _question, _part, _modal, _pronoun,
    _denied, _compared,
)  # fmt: skip
WEIGHTS = (0.05, 0.1, 0.1, 0.12, 0.1, 0.06, 0.09, 0.06, 0.03, 0.05, 0.08, 0.08, 0.05, 0.03)
