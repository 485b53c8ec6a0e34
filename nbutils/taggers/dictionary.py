"""A dictionary of strings that tags every longest match: the floor that any trained system should beat."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tqdm.auto import tqdm

from nbutils.corpus import Document, Entity, Prediction


def longest_matches(text: str, labels: Mapping[str, str], lengths: Mapping[str, Collection[int]]) -> Iterator[Entity]:
    """The strings of `labels` in a text, from left to right, the longest first; `lengths` by first character."""
    at = 0
    while at < len(text):
        known = (n for n in lengths.get(text[at], ()) if at + n <= len(text) and text[at : at + n] in labels)
        if length := max(known, default=0):
            yield Entity(at, at + length, labels[text[at : at + length]])
        at += length or 1


@dataclass(frozen=True)
class DictionaryTagger:
    """Marks the strings that were entities in training, from left to right, the longest first."""

    labels: Mapping[str, str]  # each string and its most frequent type
    lengths: Mapping[str, Collection[int]]  # by first character, the lengths of the strings that begin so

    def predict(self, documents: Iterable[Document], progress: bool = False) -> list[Prediction]:
        documents = tqdm(list(documents), disable=not progress, desc="looking up", unit="note")
        return [Prediction(d.id, tuple(longest_matches(d.text, self.labels, self.lengths))) for d in documents]


def fit_dictionary(documents: Iterable[Document]) -> DictionaryTagger:
    """Remember every entity string of these documents; of several types the most frequent, of equals the first."""
    types: dict[str, Counter[str]] = defaultdict(Counter)
    for document in documents:
        for entity in document.entities:
            types[document.surface(entity)][entity.label] += 1
    lengths: dict[str, set[int]] = defaultdict(set)
    for string in types:
        lengths[string[0]].add(len(string))
    return DictionaryTagger(
        {string: max(sorted(counts), key=counts.__getitem__) for string, counts in types.items()},
        dict(lengths),
    )
