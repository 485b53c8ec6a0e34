"""The classical baseline: a linear-chain CRF over characters with MeCab features; trains in seconds on any machine."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import fugashi
import numpy as np
import sklearn_crfsuite
from tqdm.auto import tqdm

from nbutils.corpus import Document, Entity, Prediction, entities_within, sentence_spans
from nbutils.taggers import checksums
from nbutils.taggers.bio import bio_labels, bio_to_entities, entities_to_bio
from nbutils.taggers.offsets import speakable
from nbutils.taggers.settings import CrfSettings, read_settings, save_settings
from nbutils.taggers.terms import TERMS, Terms, read_terms, write_terms


class CrfTagger:
    """A trained CRF, ready to tag."""

    def __init__(self, model: sklearn_crfsuite.CRF, settings: CrfSettings, terms: Terms | None = None):
        self.model, self.settings, self.terms = model, settings, terms

    def predict(self, documents: Iterable[Document], progress: bool = False) -> list[Prediction]:
        names = bio_labels(self.settings.labels)
        predictions = []
        for document in tqdm(list(documents), disable=not progress, desc="tagging", unit="note"):
            entities: list[Entity] = []
            for start, end in sentence_spans(document.without_entities(), self.settings.unit):
                text = document.text[start:end]
                marginals = self.model.predict_marginals_single(features(text, self.terms))
                log_probs = np.log([[max(m.get(name, 0.0), 1e-12) for name in names] for m in marginals])
                offsets = [(start + k, start + k + 1) for k in range(len(text))]
                entities += bio_to_entities(log_probs, offsets, self.settings.labels, "viterbi")
            predictions.append(Prediction(document.id, tuple(entities)))
        return predictions

    def save(self, folder: str | Path) -> None:
        """CRFsuite's own model file (data only, no pickle), our settings, and the list of terms if there is one."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.crfsuite").write_bytes(Path(self.model.modelfile.name).read_bytes())
        if self.terms:
            write_terms(self.terms, folder / TERMS)
        save_settings(self.settings, folder)
        checksums.write(folder, "*.crfsuite")


def fit(documents: Iterable[Document], settings: CrfSettings, *, seed: int = 0, progress: bool = True) -> CrfTagger:
    """Train on these documents' entities. L-BFGS has no randomness, so every seed gives the same tagger."""
    names = bio_labels(settings.labels)
    terms = read_terms(settings.dictionary) if settings.dictionary else None
    inputs, targets = [], []
    for document in tqdm(list(documents), disable=not progress, desc="features", unit="note"):
        for start, end in sentence_spans(document, settings.unit):
            text = document.text[start:end]
            numbers = entities_to_bio(
                entities_within(document, start, end), [(k, k + 1) for k in range(len(text))], settings.labels
            )
            inputs.append(features(text, terms))
            targets.append([names[n] for n in numbers])
    model = sklearn_crfsuite.CRF(
        algorithm="lbfgs", c1=settings.c1, c2=settings.c2, max_iterations=settings.iterations,
        all_possible_transitions=True,
    )  # fmt: skip
    model.fit(inputs, targets)
    return CrfTagger(model, settings, terms)


def load(folder: str | Path) -> CrfTagger:
    """A tagger as `save` left it; DataError for files that are not, since CRFsuite's reader would end the process."""
    settings = read_settings(CrfSettings, folder)
    checksums.check(folder)
    terms = read_terms((Path(folder) / TERMS).resolve()) if settings.dictionary else None
    return CrfTagger(sklearn_crfsuite.CRF(model_filename=str(Path(folder) / "model.crfsuite")), settings, terms)


@cache
def mecab() -> fugashi.Tagger:
    """MeCab with UniDic, loaded once."""
    return fugashi.Tagger()


def words(text: str) -> list[tuple[int, int, str]]:
    """MeCab's words as (start, end, part of speech) in `text`; white space belongs to none."""
    spans, at = [], 0
    text = speakable(text)
    for word in mecab()(text):
        start = text.index(word.surface, at)
        at = start + len(word.surface)
        spans.append((start, at, word.feature.pos1))
    return spans


def features(text: str, terms: Terms | None = None) -> list[list[str]]:
    """Features of each character: itself and its neighbours (NFKC), their classes, n-grams, and its word in MeCab.

    With a list of terms also whether the character and its neighbours begin (B), continue (I) or end (E) one of them.
    """
    characters = [unicodedata.normalize("NFKC", c)[:1] or c for c in text]
    classes = [character_class(c) for c in characters]
    word = [("", "", "")] * len(text)
    for start, end, pos in words(text):
        for k in range(start, end):
            place = "S" if end - start == 1 else "B" if k == start else "E" if k == end - 1 else "M"
            word[k] = ("".join(characters[start:end]), pos, place)
    out = [_features_at(k, characters, classes, word) for k in range(len(text))]
    if terms:
        places = ["O"] * len(text)
        for start, end, _ in terms.spans(text):
            places[start:end] = "S" if end - start == 1 else "B" + "I" * (end - start - 2) + "E"
        for k, some in enumerate(out):
            some += [f"t{d}={places[k + d]}" for d in (-1, 0, 1) if 0 <= k + d < len(text)]
    return out


def _features_at(
    k: int, characters: Sequence[str], classes: Sequence[str], word: Sequence[tuple[str, str, str]]
) -> list[str]:
    n = len(characters)
    out = ["bias"]
    for d in range(-3, 4):
        if 0 <= k + d < n:
            out += [f"c{d}={characters[k + d]}", f"k{d}={classes[k + d]}", f"p{d}={word[k + d][1]}/{word[k + d][2]}"]
    for first, last in ((-2, -1), (-1, 0), (0, 1), (1, 2), (-1, 1), (0, 2), (-2, 0)):
        if k + first >= 0 and k + last < n:
            out.append(f"g{first},{last}={''.join(characters[k + first : k + last + 1])}")
    surface, _, place = word[k]
    out += [f"w={surface}", f"w/{place}={surface}", f"s={surface[-1:]}"]
    return out


@cache
def character_class(c: str) -> str:
    name = unicodedata.name(c, "")
    for key, short in (("HIRAGANA", "h"), ("KATAKANA", "k"), ("CJK UNIFIED", "K"), ("LATIN", "L"), ("DIGIT", "9")):
        if key in name:
            return short
    return unicodedata.category(c)
