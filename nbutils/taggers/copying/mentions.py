"""What a tagger has tagged so far, and so will likely tag again: guesses that let copy decoding draft the tags too.

A clinic writes the same disease names over and over. A guess is a draft and no more: the model still decides, so what
is tagged stays the same and only the number of passes changes. Lives for one call, so no patient's text is kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from nbutils.corpus import Entity
from nbutils.taggers.dictionary import longest_matches

LONGEST = 40  # characters of a mention that is remembered
MOST = 50_000  # mentions remembered, so memory stays flat


class Mentions:
    """How often each mention was tagged, less how often it was guessed and not tagged."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()  # of (mention, label)
        self._labels: dict[str, str] = {}  # the likeliest label of each mention that is guessed
        self._lengths: defaultdict[str, set[int]] = defaultdict(set)  # of mentions, by first character

    def guess(self, text: str) -> list[Entity]:
        """The known mentions in a text, from left to right, the longest first."""
        return list(longest_matches(text, self._labels, self._lengths))

    def learn(self, text: str, guessed: Iterable[Entity], tagged: Sequence[Entity]) -> None:
        """Take note of what became of a text's guesses, and of what was tagged besides."""
        spans = {(e.start, e.end, e.label) for e in tagged}
        self._count(text, (e for e in guessed if (e.start, e.end, e.label) not in spans), -1)
        self._count(text, tagged, 1)

    def _count(self, text: str, entities: Iterable[Entity], by: int) -> None:
        for entity in entities:
            mention = text[entity.start : entity.end]
            known = (mention, entity.label) in self.counts
            if len(mention) <= LONGEST and (known or len(self.counts) < MOST):
                self.counts[mention, entity.label] += by
                self._choose(mention, entity.label)

    def _choose(self, mention: str, label: str) -> None:
        rival = self._labels.get(mention, label)
        best = max(rival, label, key=lambda name: self.counts[mention, name])
        if self.counts[mention, best] > 0:
            self._labels[mention] = best
            self._lengths[mention[0]].add(len(mention))
        else:
            self._labels.pop(mention, None)
