"""Inflection of the generated corpus: number, gender, person and tense, regular throughout."""

VOWELS = "aeiouáéíóú"
PLAIN = str.maketrans("áéíóú", "aeiou")


def english_plural(noun: str) -> str:
    """Turns "house" into "houses", "box" into "boxes", "story" into "stories"."""
    if noun.endswith("y") and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "sh", "ch", "z")) else "s")


def english_third(verb: str) -> str:
    """Third person singular of the present; spelled as a plural is."""
    return english_plural(verb)


def english_past(verb: str) -> str:
    """Turns "watch" into "watched", "study" into "studied", "stop" into "stopped"."""
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ied"
    doubles = len(verb) < 5 and verb[-1] in "bgmnpt" and verb[-2] in VOWELS and verb[-3] not in VOWELS
    return verb + (verb[-1] if doubles else "") + "ed"


def spanish_plural(word: str) -> str:
    """Turns "casa" into "casas", "luz" into "luces", "jardín" into "jardines"."""
    if word[-1] in "aeiouáéó":
        return word + "s"
    if word.endswith("z"):
        return word[:-1] + "ces"
    if word[-1] in "ns" and word[-2] in "áéíóú":
        word = word[:-2] + word[-2].translate(PLAIN) + word[-1]
    return word + "es"


def spanish_adjective(adjective: str, *, feminine: bool, plural: bool) -> str:
    """Turns "rojo" into "roja", "rojos", "rojas"; "verde" and "débil" have one gender."""
    if feminine and adjective.endswith("o"):
        adjective = adjective[:-1] + "a"
    return spanish_plural(adjective) if plural else adjective


def spanish_present(verb: str, *, plural: bool) -> str:
    """Third person of a verb in -ar: "mira", "miran"."""
    return verb[:-2] + ("an" if plural else "a")


def spanish_past(verb: str, *, plural: bool) -> str:
    """Third person of the preterite: "miró", "miraron"."""
    return verb[:-2] + ("aron" if plural else "ó")
