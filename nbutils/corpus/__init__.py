"""Notes and the entities in them: plain data that every other package passes around, and the types of entities."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from nbutils.files import HIDDEN, printable
from nbutils.privacy import hidden, pseudonyms, shown_id

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
    shown_as: Mapping[str, str] = field(default_factory=dict, compare=False)  # privacy.pseudonyms, set by its corpus

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
        """Every document of a private corpus is private itself, wherever it goes alone, and keeps its pseudonym."""
        if self.private and not all(d.private and d.shown_as for d in self.documents):
            marked = (
                replace(d, private=True, shown_as=d.shown_as or names)
                for d, names in zip(self.documents, pseudonyms(self.documents), strict=True)
            )
            object.__setattr__(self, "documents", tuple(marked))

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


def place_in(document: Document, entity: Entity) -> str:
    """Document and offsets of an entity, as sentences name them."""
    return f'document "{shown_id(document)}": entity {entity.start}–{entity.end}'


def problems(document: Document, *, labels: set[str] | None = None) -> list[str]:
    """Everything that makes a document's entities unusable, one sentence each; empty when it is sound."""
    sentences = []
    previous: Entity | None = None
    for entity in sorted(document.entities):
        where = place_in(document, entity)
        if not 0 <= entity.start < entity.end <= len(document.text):
            sentences.append(f"{where} does not lie in the text (0–{len(document.text)}) or is empty")
            continue
        if previous is not None and entity.start < previous.end:
            sentences.append(f"{where} overlaps {previous.start}–{previous.end}; entities may not overlap or nest")
        if labels is not None and entity.label not in labels:
            sentences.append(f'{where} has the unknown type "{HIDDEN if hidden(document.private) else entity.label}"')
        previous = entity
    return sentences


def text_hash(text: str) -> str:
    """A fingerprint of a text; a written prediction carries it, so that it cannot be scored against another text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def same_words_hash(text: str) -> str:
    """A hash that copies of one text share, whatever tool, encoding, line ends or normal form they went through."""
    return text_hash("".join(unicodedata.normalize("NFKC", text).split()))


def private_by_text(corpora: Mapping[str, Corpus]) -> dict[str, Corpus]:
    """The corpora, those marked private too that have a note in common with a private one; a notice says so."""
    owner = {same_words_hash(d.text): name for name, corpus in corpora.items() if corpus.private for d in corpus}
    marked = {}
    for name, corpus in corpora.items():
        owners = [owner[h] for h in (same_words_hash(d.text) for d in corpus) if h in owner]
        if owners and not corpus.private:
            notice = f"{len(owners):,} of its notes are also in {owners[0]}, which is private; so it is private, too"
            corpus = replace(corpus, private=True, notices=(notice, *corpus.notices))
        marked[name] = corpus
    return marked


def fingerprint(corpus: Corpus) -> str:
    """A short hash of ids, texts and entities: another one means that a run was made from something else."""
    content = [(d.id, d.text, [(*e.key, e.certainty) for e in d.entities]) for d in corpus]
    return text_hash(repr(content))


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
        if joined and any(e.start < joined[-1][1] and e.end > start for e in document.entities):
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


def cut_to(entities: Iterable[Entity], start: int, end: int) -> list[Entity]:
    """The entities that touch `[start, end)`, cut to it, with offsets counted from `start`."""
    touched = [e for e in sorted(entities) if e.start < end and start < e.end]
    return [replace(e, start=max(e.start, start) - start, end=min(e.end, end) - start) for e in touched]


def without_overlaps(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """The entities in order, without any that overlaps the one before it."""
    kept: list[Entity] = []
    for entity in sorted(entities):
        if not kept or entity.start >= kept[-1].end:
            kept.append(entity)
    return tuple(kept)


def paired(first: Corpus, second: Corpus) -> list[tuple[Document, Document]]:
    """The documents that both annotated.

    Raises:
        ValueError: the second annotated a document that the first has not, or another text.
    """
    by_id = {d.id: d for d in first}
    pairs = []
    for document in second:
        if document.id not in by_id:
            raise ValueError(f'document "{shown_id(document)}" of "{second.name}" is not in "{first.name}"')
        if by_id[document.id].text != document.text:
            raise ValueError(f'document "{shown_id(document)}": the two annotators did not have the same text')
        pairs.append((by_id[document.id], document))
    return pairs


# --- types of entities: which ones a study is about, and under what names ---------------------------------------------


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
    `certainties` does not touch them. `separated` is the way back. What is left out is counted in the notices.
    """
    labels, wanted = set(labels), None if certainties is None else set(certainties)

    def chosen(e: Entity) -> bool:
        return e.label in labels and (wanted is None or e.certainty in wanted or e.label in WITHOUT_CERTAINTY)

    def typed(e: Entity) -> Entity:
        return replace(e, label=_type_of(e.label, e.certainty)) if certainty_in_type else e

    documents = (replace(d, entities=tuple(typed(e) for e in d.entities if chosen(e))) for d in corpus)
    left_out = Counter(
        f'type "{_shown(e.label, corpus)}"' if e.label not in labels else f'certainty "{_shown(e.certainty, corpus)}"'
        for d in corpus
        for e in d.entities
        if not chosen(e)
    )
    told = (f"left out {n:,} entities of the {what}, which the study does not name" for what, n in left_out.items())
    return replace(corpus, documents=tuple(documents), notices=(*sorted(told), *corpus.notices))


def _shown(name: str | None, corpus: Corpus) -> str:
    """A type or certainty that the study does not name: in a private corpus it could be anything."""
    known = name in MEDTXT_TAGS or name in CERTAINTIES or name is None
    return printable(name or UNMARKED) if known or not hidden(corpus.private) else HIDDEN


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
