"""How a corpus is to be read, and what a reader hands back; spans that are not plainly right are settled here.

Knows entities and the places where they stand in a file. A choice that changes entities is declared by the user, never
made silently: every entity that was cut, joined or left out becomes a notice or a count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbutils.corpus import Document, Entity
from nbutils.files import DataError

CHOICES = {
    "overlaps": ("refuse", "longest"),
    "discontinuous": ("refuse", "fragments", "cover"),
    "offsets": ("codepoints", "utf16"),
    "join": ("none", "space", "offsets"),
    "documents": ("docstart", "blank", "file"),
}


@dataclass(frozen=True)
class Reading:
    """What the user declares about a corpus beside its format and path."""

    encoding: str | None = None
    labels_as: Mapping[str, str] | None = None  # type in the file -> type in the study; types not named are left out
    overlaps: str = "refuse"  # or `longest`: of two entities that share characters the longer one is kept
    discontinuous: str = "refuse"  # or `fragments`: one entity a piece; or `cover`: from the first piece to the last
    offsets: str | None = None  # what offsets count, where tools differ: `codepoints` or `utf16` code units
    join: str | None = None  # of CoNLL tokens: `none`, `space`, or `offsets` in two columns
    documents: str | None = None  # of CoNLL: begun by `docstart`, divided by `blank` lines, or one a `file`
    root: Path | None = None  # the folder from which document ids count


@dataclass
class Read:
    """Documents of one file, and what reading them changed or left out."""

    documents: list[Document]
    meta: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)  # one sentence each, with its place
    left_out: Counter[str] = field(default_factory=Counter)  # what was not read, counted by kind
    types: Counter[str] = field(default_factory=Counter)  # entity types as the file names them


@dataclass(frozen=True)
class Located:
    """An entity and where it stands in its file, for sentences about it."""

    entity: Entity
    place: str


def label_of(label: str, how: Reading, read: Read) -> str | None:
    """The study's name of an entity type, None where the study does not want it; counts what it sees."""
    read.types[label] += 1
    if how.labels_as is None:
        return label
    if label not in how.labels_as:
        read.left_out[f'entities of the type "{label}", which labels_as does not name'] += 1
        return None
    return how.labels_as[label]


def relabelled(read: Read, how: Reading) -> Read:
    """The documents with the study's names for entity types; for formats whose entities cannot overlap anyway."""

    def kept(document: Document) -> Document:
        named = [(e, label_of(e.label, how, read)) for e in document.entities]
        return replace(document, entities=tuple(replace(e, label=label) for e, label in named if label is not None))

    read.documents = [kept(d) for d in read.documents]
    return read


def settled(found: list[Located], text: str, how: Reading, read: Read) -> tuple[Entity, ...]:
    """Sound entities in the order of the text.

    Raises:
        DataError: an entity that is empty or outside the text; two that share characters, unless `overlaps: longest`.
    """
    for one in found:
        start, end = one.entity.start, one.entity.end
        if start == end:
            raise DataError(f"{one.place}: the entity {start}–{end} is empty; give it its characters or delete it")
        if not 0 <= start < end <= len(text):
            raise DataError(
                f"{one.place}: the entity {start}–{end} does not lie in the text (0–{len(text)}); mend its offsets"
            )
    if how.overlaps == "longest":
        # Longest first, then in the order of the text, then of the file: the same choice on every machine.
        found = sorted(found, key=lambda one: (one.entity.start - one.entity.end, one.entity.start))
    kept: list[Located] = []
    taken: list[Located | None] = [None] * len(text)
    for one in found:
        start, end = one.entity.start, one.entity.end
        other = next((o for o in taken[start:end] if o is not None), None)
        if other is None:
            kept.append(one)
            taken[start:end] = [one] * (end - start)
        else:
            _clash(one, other, how, read)
    return tuple(sorted(one.entity for one in kept))


def _clash(one: Located, other: Located, how: Reading, read: Read) -> None:
    a, b = one.entity, other.entity
    what = "is the same entity as" if a.key == b.key else "overlaps"
    place = other.place.rsplit(", ", 1)[-1]
    if how.overlaps == "refuse":
        raise DataError(
            f"{one.place}: {a.start}–{a.end} {what} {b.start}–{b.end} ({place}); entities may not overlap or nest: "
            "delete one, name only one of the types in labels_as, or say `overlaps: longest` in the study file"
        )
    read.notices.append(f"{one.place}: {a.start}–{a.end} {what} {b.start}–{b.end} ({place}) and was left out")


def offset_reader(text: str, offsets: str | None) -> Callable[[int], int]:
    """From a file's offsets to code points; an offset in the middle of a character becomes −1."""
    if offsets != "utf16" or not has_wide_characters(text):
        return lambda offset: offset
    units = [0]
    for character in text:
        units.append(units[-1] + 1 + (ord(character) > 0xFFFF))
    place = {unit: k for k, unit in enumerate(units)}
    return lambda offset: place.get(offset, -1 if offset <= units[-1] else len(text) + 1)


def has_wide_characters(text: str) -> bool:
    """Whether code points and UTF-16 code units count this text differently (emoji, 𠮷 and the like)."""
    return any(ord(character) > 0xFFFF for character in text)


def check_offsets_declared(text: str, ends: list[int], how: Reading, where: str) -> None:
    """Refuse to guess what offsets count, where it makes a difference.

    Browser tools count UTF-16 code units in some versions and code points in others (Label Studio's issue 1347 and its
    later change, doccano's issue 2290), so a file with such characters must say.
    """
    if how.offsets is None and ends and has_wide_characters(text[: max(ends)]):
        raise DataError(
            f"{where}: the text has characters such as emoji, which some versions of the tool count as one and some as "
            "two; say `offsets: codepoints` or `offsets: utf16` in the study file"
        )


def further_values(values: Iterable[tuple[str, Any]], read: Read) -> dict[str, str]:
    """A row's values beside text and entities, as a document's `meta`: its strings; what else there is, is counted."""
    meta = {}
    for key, value in values:
        if isinstance(value, str):
            meta[key] = value
        elif value not in (None, [], {}):
            read.left_out[f'values of "{key}", which are no strings'] += 1
    return meta
