"""Documents of the generated corpus: each has a topic, and is written in English and in Spanish."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flops_fit.pipeline.generator import sentences
from flops_fit.pipeline.generator.lexicon import Lexicon, Stem, make_lexicon

TOPICS = 200
TOPIC_STEMS = {"nouns": 24, "verbs": 12, "adjectives": 10}
TOPIC_SHARE = 0.5
"""Share of content words that come from the document's topic."""
SENTENCES = (8, 16)
"""Sentences of a document, from and below."""
ZIPF_EXPONENT = 1.35
ZIPF_OFFSET = 2.7


@dataclass(frozen=True)
class Writer:
    """Draws the stems of one document: by topic, else by frequency."""

    rng: np.random.Generator
    lexicon: Lexicon
    cumulative: dict[str, np.ndarray]
    topic: dict[str, list[int]]

    def noun(self) -> Stem:
        """Draws a noun."""
        return self.lexicon.nouns[self._draw("nouns")]

    def verb(self) -> Stem:
        """Draws a verb."""
        return self.lexicon.verbs[self._draw("verbs")]

    def adjective(self) -> Stem:
        """Draws an adjective."""
        return self.lexicon.adjectives[self._draw("adjectives")]

    def adverb(self) -> Stem:
        """Draws an adverb."""
        return self.lexicon.adverbs[int(self.rng.integers(len(self.lexicon.adverbs)))]

    def _draw(self, kind: str) -> int:
        if self.rng.random() < TOPIC_SHARE:
            stems = self.topic[kind]
            return stems[int(len(stems) * self.rng.random())]
        return draw_rank(self.rng, self.cumulative[kind])


def generate_documents(seed: int, num_bytes: float) -> Iterator[dict[str, str]]:
    """Yields documents as texts by language, until they hold ``num_bytes`` of UTF-8 together."""
    rng = np.random.default_rng(seed)
    lexicon = make_lexicon(rng)
    cumulative = {kind: _zipf(len(getattr(lexicon, kind))) for kind in TOPIC_STEMS}
    topics = [
        {kind: [draw_rank(rng, cumulative[kind]) for _ in range(count)] for kind, count in TOPIC_STEMS.items()}
        for _ in range(TOPICS)
    ]
    written = 0
    while written < num_bytes:
        writer = Writer(rng, lexicon, cumulative, topics[int(rng.integers(TOPICS))])
        pairs = [sentences.write(writer) for _ in range(int(rng.integers(*SENTENCES)))]
        document = {lang: " ".join(pair[i] for pair in pairs) for i, lang in enumerate(("en", "es"))}
        written += sum(len(text.encode()) for text in document.values())
        yield document


def draw_rank(rng: np.random.Generator, cumulative: np.ndarray) -> int:
    """Draws a rank from a cumulative distribution."""
    return int(np.searchsorted(cumulative, rng.random()))


def _zipf(count: int) -> np.ndarray:
    weights = (np.arange(count) + ZIPF_OFFSET) ** -ZIPF_EXPONENT
    cumulative: np.ndarray = np.cumsum(weights / weights.sum())
    cumulative[-1] = 1.0
    return cumulative
