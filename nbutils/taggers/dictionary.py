"""A dictionary of strings that tags every longest match: the floor that any trained system should beat."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from nbutils.corpus import Document, Entity, Prediction
from nbutils.files import DataError, record_in, written_whole
from nbutils.taggers.settings import DictionarySettings, read_settings, save_settings
from nbutils.taggers.terms import TERMS, Terms, lengths_by_first, read_terms, write_terms


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
    labels = {string: max(sorted(counts), key=counts.__getitem__) for string, counts in types.items()}
    return DictionaryTagger(labels, lengths_by_first(labels))


# --- a row of a study: `kind: dictionary` ----------------------------------------------------------------------------


class TermTagger:
    """Marks the terms of a list and the strings that were entities in training, after NFKC, the longest first."""

    def __init__(self, terms: Terms, types: Mapping[str, str], settings: DictionarySettings):
        self.terms, self.types, self.settings = terms, types, settings

    def predict(self, documents: Iterable[Document], progress: bool = False) -> list[Prediction]:
        default, predictions = self.settings.labels[0], []
        for d in tqdm(list(documents), disable=not progress, desc="looking up", unit="note"):
            entities = (Entity(a, b, self.types.get(term, default)) for a, b, term in self.terms.spans(d.text))
            predictions.append(Prediction(d.id, tuple(entities)))
        return predictions

    def save(self, folder: str | Path) -> None:
        """All strings with their codes, the types of those that training showed, and the settings."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_terms(self.terms, folder / TERMS)
        with written_whole(folder / "types.json") as file:
            json.dump(self.types, file, ensure_ascii=False)
        save_settings(self.settings, folder)


def fit(
    documents: Iterable[Document], settings: DictionarySettings, *, seed: int = 0, progress: bool = True
) -> TermTagger:
    """The terms of the list (if one is named), and the training part's entity strings (if `learn`).

    A term of the list that training never showed is of the study's first type.

    Raises:
        DataError: a list that cannot be read, or no term at all.
    """
    codes = dict(read_terms(settings.dictionary).codes) if settings.dictionary else {}
    learned = fit_dictionary(documents).labels if settings.learn else {}
    types = {unicodedata.normalize("NFKC", string): label for string, label in learned.items()}
    if not codes and not types:
        raise DataError("kind dictionary: there is neither a dictionary nor anything learned; name one, or set learn")
    return TermTagger(Terms(dict.fromkeys(types, "") | codes), types, settings)


def load(folder: str | Path) -> TermTagger:
    """A tagger as `save` left it."""
    folder = Path(folder)
    settings = read_settings(DictionarySettings, folder)
    return TermTagger(read_terms((folder / TERMS).resolve()), record_in(folder / "types.json"), settings)
