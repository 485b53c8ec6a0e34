"""Types of entities and their certainties: which of a corpus' entities a study is about, and under what names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from nbutils.corpus.documents import Corpus, Entity
from nbutils.files import HIDDEN, printable
from nbutils.privacy import hidden

MEDTXT_TAGS = frozenset(["d", "a", "f", "c", "timex3", "t-test", "t-key", "t-val", "m-key", "m-val", "r", "cc", "p"])


WITHOUT_CERTAINTY = MEDTXT_TAGS - {"d"}  # MedTxt gives a certainty to disease names alone


CERTAINTIES = ("positive", "suspicious", "negative", "general")


UNMARKED = "unmarked"  # in the name of a type: an entity that should have a certainty and has none


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
