"""Text checks: what words of generated samples say of a model, by the lexicons of its training text."""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import groupby, pairwise

_WORD = re.compile(r"[^\W\d_]+")


def words_of(text: str) -> list[str]:
    """The words of a text, case folded; numbers are none."""
    return _WORD.findall(text.casefold())


def lexicons(texts: Mapping[str, Iterable[str]]) -> dict[str, Counter[str]]:
    """The words of each language's texts, with how often they come."""
    return {lang: Counter(word for text in found for word in words_of(text)) for lang, found in texts.items()}


def continuation_words(text: str, prompt: str) -> list[str]:
    """The words that a model wrote, without the last, which may be cut off.

    They begin with the last word of the prompt, which the model may have gone on with.
    """
    return words_of(text)[max(0, len(words_of(prompt)) - 1) : -1]


def distinct_2(texts: Sequence[Sequence[str]]) -> float:
    """Distinct pairs of neighbouring words over all such pairs; 0 without any."""
    pairs = [pair for words in texts for pair in pairwise(words)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def longest_run(ids: Sequence[int]) -> int:
    """How often a token comes in a row, at most."""
    return max((len(list(group)) for _, group in groupby(ids)), default=0)


def share_known(texts: Sequence[Sequence[str]], lexicon: Container[str]) -> float:
    """Share of words that a lexicon holds; 0 without words."""
    words = [word for text in texts for word in text]
    return sum(word in lexicon for word in words) / len(words) if words else 0.0


def is_in_language(words: Sequence[str], lang: str, found: Mapping[str, Counter[str]]) -> bool:
    """Whether more words are of one language than of any other.

    A word is of the language in whose texts it is the most frequent: Spanish manuals hold English words too.
    """
    shares = {name: (lexicon, max(1, lexicon.total())) for name, lexicon in found.items()}
    votes: Counter[str] = Counter()
    for word in words:
        if any(word in lexicon for lexicon in found.values()):
            votes[max(shares, key=lambda name: shares[name][0][word] / shares[name][1])] += 1
    return all(votes[lang] > votes[name] for name in found if name != lang)
