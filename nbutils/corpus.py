"""Notes and the entities in them: the plain data that every other room of the package passes around.

Knows code-point offsets, lines and counts. Knows nothing of files, models or scores, and imports nothing of ours but
the rule of what may be shown.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import pandas as pd

from nbutils.privacy import shown

MEDTXT_TAGS = frozenset(["d", "a", "f", "c", "timex3", "t-test", "t-key", "t-val", "m-key", "m-val", "r", "cc", "p"])
WITHOUT_CERTAINTY = MEDTXT_TAGS - {"d"}  # MedTxt gives a certainty to disease names alone
CERTAINTIES = ("positive", "suspicious", "negative", "general")
UNMARKED = "unmarked"  # in the name of a type: an entity that should have a certainty and has none


@dataclass(frozen=True)
class Entity:
    """A half-open span `text[start:end]`, in Unicode code points of the document's unchanged text."""

    start: int
    end: int
    label: str = "d"
    certainty: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()  # further XML attributes (state, type, correction …) as read
    score: float | None = field(default=None, compare=False)  # a tagger's probability of this entity, 0 … 1

    @property
    def key(self) -> tuple[int, int, str]:
        """What exact matching compares: start, end and type."""
        return self.start, self.end, self.label

    def __lt__(self, other: Entity) -> bool:
        """Order of place; a certainty may be None, which has no order, and plays no part."""
        return self.key < other.key


@dataclass(frozen=True)
class Document:
    """One note. `meta` holds what the file says about it (title, case, physician, …)."""

    id: str
    text: str
    entities: tuple[Entity, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    private: bool = False  # set by its corpus; see privacy.shown

    def surface(self, entity: Entity) -> str:
        return self.text[entity.start : entity.end]

    def without_entities(self) -> Document:
        """The bare note, as a tagger may see it."""
        return replace(self, entities=())


@dataclass(frozen=True)
class Corpus:
    """Documents and where they may go: the text of a `private` corpus never leaves the machine.

    `silver` says that the entities were projected from strings, not marked by a person at that place; `notices` say in
    a sentence each what reading the files changed or left out.
    """

    name: str
    documents: tuple[Document, ...]
    private: bool = False
    silver: bool = False
    meta: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Every document of a private corpus is private itself, wherever it goes alone."""
        if self.private and not all(d.private for d in self.documents):
            object.__setattr__(self, "documents", tuple(replace(d, private=True) for d in self.documents))

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)


@dataclass(frozen=True)
class Prediction:
    """What a tagger found in one document; `raw` and `repairs` keep what a generating model really wrote."""

    document_id: str
    entities: tuple[Entity, ...]
    raw: str | None = None
    repairs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Tokens:
    """Tokens of prompts and of answers: what a model is given and what it writes."""

    prompt: int = 0
    answer: int = 0

    def cost(self, price: Mapping[str, float]) -> float:
        """In the currency of the price, which is per million tokens; 0 without one."""
        return (self.prompt * price.get("input", 0) + self.answer * price.get("output", 0)) / 1e6

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.answer + other.answer)


class Tagger(Protocol):
    """Anything that finds entities; built by the `fit` of its module (`crf.fit`, `bert.fit`, `lora.fit`).

    One that works with tokens counts in `used` (a `Tokens`) those of every note that it has tagged.
    """

    def predict(self, documents: Iterable[Document]) -> list[Prediction]: ...


def problems(document: Document, *, labels: set[str] | None = None) -> list[str]:
    """Everything that makes a document's entities unusable, one sentence each; empty when it is sound."""
    found = []
    previous: Entity | None = None
    for entity in sorted(document.entities):
        where = f'document "{document.id}": entity {entity.start}–{entity.end}'
        if not 0 <= entity.start < entity.end <= len(document.text):
            found.append(f"{where} does not lie in the text (0–{len(document.text)}) or is empty")
            continue
        if previous is not None and entity.start < previous.end:
            found.append(f"{where} overlaps {previous.start}–{previous.end}; entities may not overlap or nest")
        if labels is not None and entity.label not in labels:
            found.append(f'{where} has the unknown type "{entity.label}"')
        previous = entity
    return found


def text_hash(text: str) -> str:
    """A fingerprint of a text; a written prediction carries it, so that it cannot be scored against another text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fingerprint(corpus: Corpus) -> str:
    """A short hash of ids, texts and entities: another one means that a run was made from something else."""
    content = [(d.id, d.text, [(*e.key, e.certainty) for e in d.entities]) for d in corpus]
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def lines(text: str) -> list[tuple[int, int]]:
    """The non-blank lines of a text as (start, end) offsets, without their line break: the corpus' sentences.

    Breaks at LF, CR and CRLF only, so that a form feed or U+2028 inside a sentence does not cut it.
    """
    return [match.span() for match in re.finditer(r"[^\r\n]+", text) if match.group().strip()]


def sentence_spans(document: Document, unit: str = "sentence") -> list[tuple[int, int]]:
    """The pieces of a document that a model sees at once: its lines, or the whole `note`.

    Lines that a gold entity runs across are joined, so that no training entity is lost; a bare document has none.
    """
    if unit == "note":
        return [(0, len(document.text))] if document.text.strip() else []
    if unit != "sentence":
        raise ValueError(f'unit "{unit}" is unknown; use "sentence" or "note"')
    joined: list[tuple[int, int]] = []
    for start, end in lines(document.text):
        crosses = joined and any(e.start < joined[-1][1] and e.end > start for e in document.entities)
        if crosses:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def entities_within(document: Document, start: int, end: int) -> list[Entity]:
    """The entities that lie wholly in `[start, end)`, with offsets counted from `start`."""
    return [
        replace(e, start=e.start - start, end=e.end - start)
        for e in sorted(document.entities)
        if start <= e.start and e.end <= end
    ]


def select(
    corpus: Corpus,
    labels: Iterable[str] = ("d",),
    certainties: Iterable[str] | None = None,
    *,
    certainty_in_type: bool = False,
) -> Corpus:
    """The corpus with only the entities of these types and, if given, these certainties (the paper: all `d`).

    With `certainty_in_type` the certainty becomes part of the type (`d-positive`; `d-unmarked` where it is missing), so
    that whatever takes types takes these too. MedTxt's other tags have no certainty: they keep their name, and
    `certainties` does not touch them. `separated` is the way back.
    """
    labels, wanted = set(labels), None if certainties is None else set(certainties)

    def chosen(e: Entity) -> bool:
        return e.label in labels and (wanted is None or e.certainty in wanted or e.label in WITHOUT_CERTAINTY)

    def typed(e: Entity) -> Entity:
        return replace(e, label=_type_of(e.label, e.certainty)) if certainty_in_type else e

    documents = (replace(d, entities=tuple(typed(e) for e in d.entities if chosen(e))) for d in corpus)
    return replace(corpus, documents=tuple(documents))


def entity_types(
    labels: Iterable[str], certainties: Iterable[str] | None = None, *, certainty_in_type: bool = False
) -> tuple[str, ...]:
    """The names of all types that `select` can give an entity with the same arguments, in a fixed order."""
    if not certainty_in_type:
        return tuple(labels)
    wanted = (*CERTAINTIES, None) if certainties is None else [c for c in CERTAINTIES if c in set(certainties)]
    of = {label: (None,) if label in WITHOUT_CERTAINTY else wanted for label in labels}
    return tuple(dict.fromkeys(_type_of(label, certainty) for label in of for certainty in of[label]))


def _type_of(label: str, certainty: str | None) -> str:
    return label if label in WITHOUT_CERTAINTY else f"{label}-{certainty or UNMARKED}"


def separated(entity: Entity) -> Entity:
    """The entity with the certainty taken out of its type, if it is in there: `d-positive` becomes `d`, `positive`."""
    label, _, certainty = entity.label.rpartition("-")
    if not label or certainty not in (*CERTAINTIES, UNMARKED):
        return entity
    return replace(entity, label=label, certainty=None if certainty == UNMARKED else certainty)


def spans_only(corpus: Corpus) -> Corpus:
    """The corpus with nothing but start, end and type of its entities, for formats that can hold no more."""
    bare = (replace(d, entities=tuple(Entity(*e.key) for e in d.entities)) for d in corpus.documents)
    return replace(corpus, documents=tuple(bare), meta={})


def statistics(corpora: Iterable[Corpus]) -> pd.DataFrame:
    """One row a corpus: documents, lines, characters, entities and their mean length in characters."""
    rows = []
    for corpus in corpora:
        surfaces = [d.surface(e) for d in corpus for e in d.entities]
        n_lines = sum(len(lines(d.text)) for d in corpus)
        rows.append(
            {
                "corpus": corpus.name,
                "documents": len(corpus),
                "lines": n_lines,
                "characters": sum(len(d.text) for d in corpus),
                "entities": len(surfaces),
                "entities per line": len(surfaces) / max(n_lines, 1),
                "distinct surfaces": len(set(surfaces)),
                "mean entity length (characters)": sum(map(len, surfaces)) / max(len(surfaces), 1),
            }
        )
    return pd.DataFrame(rows).set_index("corpus")


def certainty_table(corpora: Iterable[Corpus]) -> pd.DataFrame:
    """Entities by certainty, one column a corpus; an unmarked certainty is its own row."""
    counts = {c.name: Counter(e.certainty or "unmarked" for d in c for e in d.entities) for c in corpora}
    return pd.DataFrame(counts).fillna(0).astype(int).sort_index()


def top_entities(corpus: Corpus, by: str = "case", n: int = 3) -> pd.DataFrame:
    """The `n` most frequent surfaces in each group of documents (Table 1 of the paper groups by case)."""
    groups: dict[str, Counter[str]] = {}
    titles: dict[str, str] = {}
    for document in corpus:
        group = document.meta.get(by, "")
        document = shown(document)
        titles.setdefault(group, document.meta.get("title", ""))
        groups.setdefault(group, Counter()).update(document.surface(e) for e in document.entities)
    rows = [
        {by: group, "title": titles[group], "entity": surface, "frequency (n)": count}
        for group in sorted(groups)
        for surface, count in sorted(groups[group].items(), key=lambda item: (-item[1], item[0]))[:n]
    ]
    return pd.DataFrame(rows, columns=[by, "title", "entity", "frequency (n)"])


def unseen_rate(train: Corpus, test: Corpus) -> float:
    """Share of the test corpus' entity mentions whose surface is no entity of the training corpus; nan without any."""
    known = {d.surface(e) for d in train for e in d.entities}
    mentions = [d.surface(e) for d in test for e in d.entities]
    return sum(s not in known for s in mentions) / len(mentions) if mentions else float("nan")
