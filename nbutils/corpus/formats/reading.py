"""How a corpus is to be read, and what readers hand back: documents, what was changed, and what is wrong.

A choice that changes entities is declared by the user, never made silently: every entity that was cut, joined, trimmed
or left out becomes a notice or a count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbutils.corpus import Document, Entity, place_in
from nbutils.corpus.formats.offsets import MEANINGS, check_declared, offset_reader, same_words, why_shifted
from nbutils.files import DataError, Fault, Place, Remark

CHOICES = {
    "overlaps": ("refuse", "longest"),
    "discontinuous": ("refuse", "fragments", "cover"),
    "offsets": tuple(MEANINGS),
    "join": ("none", "space", "offsets"),
    "documents": ("docstart", "blank", "file"),
}
Spans = list[tuple[int, int]]
_BLANKS = re.compile("[\\s\u200b\u2060\ufeff]*")  # white space, and what is invisible without being white space


@dataclass(frozen=True)
class Reading:
    """What the user declares about a corpus beside its format and path."""

    encoding: str | None = None
    labels_as: Mapping[str, str] | None = None  # type in the file -> type in the study; types not named are left out
    overlaps: str = "refuse"  # or `longest`: of two entities that share characters the longer one is kept
    discontinuous: str = "refuse"  # or `fragments`: one entity per piece; or `cover`: from the first piece to the last
    offsets: str | None = None  # what offsets count, where tools differ: see formats/offsets.py
    join: str | None = None  # of CoNLL tokens: `none`, `space`, or `offsets` in two columns
    documents: str | None = None  # of CoNLL: begun by `docstart`, divided by `blank` lines, or one per `file`
    root: Path | None = None  # the folder from which document ids count
    alias: str | None = None  # of a private corpus: what stands for the file's path in a sentence

    def at(self, path: Path) -> Place:
        """How sentences name a file."""
        beside = ", its annotations" if path.suffix.lower() == ".ann" else ""
        return Place(path if self.alias is None else f"{self.alias}{beside}")

    def wants(self, label: str) -> bool:
        """Whether the study is about this type of the file."""
        return self.labels_as is None or label in self.labels_as


@dataclass(frozen=True)
class Located:
    """An entity as its file names it, and where it stands there; `quoted` is the text that the file gives for it."""

    entity: Entity
    place: Place
    quoted: str | None = None
    given: Spans | None = None  # its offsets as the file has them, if these do not count code points


@dataclass
class Read:
    """Documents of a corpus, what reading them changed or left out, and what is wrong with them."""

    documents: list[Document] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)  # what was changed, for notices
    faults: list[Remark] = field(default_factory=list)  # what makes the corpus unusable
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)  # what was not read: kind, its name in the file
    unwanted: Counter[str] = field(default_factory=Counter)  # entities of types that the study does not name
    types: Counter[str] = field(default_factory=Counter)  # all entities, by type as the file names it
    bare: list[Place] = field(default_factory=list)  # notes without any annotation
    place_of: dict[str, Place] = field(default_factory=dict)  # of every document, by id

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Keep a fault that occurs inside, and go on behind it: all faults of a corpus are told at once."""
        try:
            yield
        except Fault as fault:
            self.faults.append(fault.remark)

    def fault(self, place: str, what: str, fix: str, *says: object) -> None:
        """Something that makes the corpus unusable."""
        self.faults.append(Remark(place, what, fix, says))

    def tell(self, place: str, what: str, *says: object) -> None:
        """Something that reading changed, for a notice."""
        self.remarks.append(Remark(place, what, "", says))

    def skip(self, what: str, name: str = "", n: int = 1) -> None:
        """Something that was not read, counted for a notice; `what` has a `{}` for its name in the file, if any."""
        self.left_out[what, name] += n

    def add(self, id: str, text: str, marked: Iterable[Located], how: Reading, place: Place, **more: Any) -> None:
        """A document with what is marked in it, by the declared choices, if no other one has its id.

        `annotated` says whether anything was marked in it, if that cannot be told from `marked`.
        """
        marked = list(marked)
        if not (more.pop("annotated", False) or marked):
            self.bare.append(place)
        if id in self.place_of:
            what = 'the id "{}" stands already in {}'
            fix = "every document needs an id of its own (of several annotators export one)"
            self.fault(place, what, fix, id, self.place_of[id])
            return
        self.place_of[id] = place
        self.documents.append(Document(id, text, settled(marked, text, how, self), more.get("meta", {})))


def in_code_points(regions: list[Located], text: str, how: Reading, where: str) -> list[Located]:
    """Entities with offsets as a file has them, counted in code points; `given` keeps the file's own.

    Raises:
        Fault: it is not declared what they count, and it makes a difference; see `check_declared`.
    """
    spans = [(r.entity.start, r.entity.end, r.quoted) for r in regions if how.wants(r.entity.label)]
    check_declared(text, spans, how.offsets, where)
    to_code_points, counted = offset_reader(text, how.offsets), []
    for r in regions:
        start, end = r.entity.start, r.entity.end
        entity = replace(r.entity, start=to_code_points(start), end=to_code_points(end))
        counted.append(replace(r, entity=entity, given=[(start, end)]))
    return counted


def settled(marked: Iterable[Located], text: str, how: Reading, read: Read) -> tuple[Entity, ...]:
    """Sound entities of the types that the study is about, in the order of the text; faults go to `read`."""
    sound: list[Located] = []
    for one in marked:
        with read.noting():
            if (entity := _sound(one, text, how, read)) is not None:
                sound.append(Located(entity, one.place))
    if how.overlaps == "longest":
        # Longest first, then in the order of the text, then of the file: the same choice on every machine.
        sound.sort(key=lambda one: (one.entity.start - one.entity.end, one.entity.start))
    kept: list[Located] = []
    taken: list[Located | None] = [None] * len(text)
    for one in sound:
        start, end = one.entity.start, one.entity.end
        other = next((o for o in taken[start:end] if o is not None), None)
        if other is None:
            kept.append(one)
            taken[start:end] = [one] * (end - start)
        else:
            _clash(one, other, how, read)
    return tuple(sorted(one.entity for one in kept))


def _sound(one: Located, text: str, how: Reading, read: Read) -> Entity | None:
    """The entity by its name in the study and without white space at its edges; None if the study is not about it."""
    label = wanted_label(one.entity.label, how, read)
    if label is None:
        return None
    e = one.entity
    check_spans(one.place, [(e.start, e.end)], text, one.quoted, one.given)
    start = _BLANKS.match(text, e.start, e.end).end()
    if start == e.end:
        fix = "give it its characters or delete it"
        raise Fault(one.place, "the entity {}–{} holds nothing but white space", fix, e.start, e.end)
    end = e.end - _BLANKS.match(text[start : e.end][::-1]).end()
    if (start, end) != (e.start, e.end):
        read.tell(one.place, "an entity begins or ends with white space, which was taken off")
    return Entity(start, end, label, e.certainty, e.attributes, e.score)


def wanted_label(label: str, how: Reading, read: Read) -> str | None:
    """The study's name of an entity type, None where the study does not want it; counts what it sees."""
    read.types[label] += 1
    if how.labels_as is None:
        return label
    if label not in how.labels_as:
        read.unwanted[label] += 1
    return how.labels_as.get(label)


def check_spans(
    place: str, spans: Spans, text: str, quoted: str | None = None, given: Spans | None = None, hint: str = ""
) -> None:
    """Hold the pieces of an entity against the text: inside it, not empty, and what the file quotes, if it does.

    `given` are the offsets as the file has them, `hint` is a cause that explains any deviation.

    Raises:
        Fault: with the cause, where one shows.
    """
    given = given or spans
    shown = Place("; ".join(f"{start}–{end}" for start, end in given))
    if any(start == end for start, end in spans):
        raise Fault(place, "the entity {} is empty", "give it its characters or delete it", shown)
    inside = all(0 <= start < end <= len(text) for start, end in spans)
    if inside and (quoted is None or same_words(" ".join(text[start:end] for start, end in spans), quoted)):
        return
    cause = hint or why_shifted(quoted, given, text)
    if not inside:
        fix = cause or "correct its offsets, or say what they count (`offsets:`)"
        raise Fault(place, "the entity {} does not lie in the text (0–{})", fix, shown, len(text))
    fix = cause or "correct its offsets; was the text changed after it was annotated?"
    raise Fault(place, "the file quotes another text than stands at {} in the note", fix, shown)


def _clash(one: Located, other: Located, how: Reading, read: Read) -> None:
    a, b = one.entity, other.entity
    what = "is the same entity as" if a.key == b.key else "overlaps"
    says = (a.start, a.end, b.start, b.end, Place(other.place.rsplit(", ", 1)[-1]))
    if how.overlaps == "refuse":
        fix = (
            "entities may not overlap or nest: delete one, name only one of the types in labels_as, or, where the "
            "format leaves the choice, say `overlaps: longest` in the study file"
        )
        read.fault(one.place, f"{{}}–{{}} {what} {{}}–{{}} ({{}})", fix, *says)
    else:
        read.tell(one.place, f"{{}}–{{}} {what} {{}}–{{}} ({{}}) and was left out", *says)


def further_values(values: Iterable[tuple[str, Any]], read: Read) -> dict[str, str]:
    """A row's values beside text and entities, as a document's `meta`: its strings; what else there is, is counted."""
    meta = {}
    for key, value in values:
        if isinstance(value, str):
            meta[key] = value
        elif value not in (None, [], {}):
            read.skip('values of "{}", which are no strings', key)
    return meta


def listed(value: Any, place: str, what: str, fix: str) -> list[Any]:
    """A list of objects of a JSON file; None counts as an empty one.

    Raises:
        Fault: anything else, called `what`.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise Fault(place, "{} must be a list of objects", fix, Place(what))
    return value


# --- what writers of several formats share ----------------------------------------------------------------------------


def attributes_of(entity: Entity) -> list[tuple[str, str]]:
    """An entity's attributes, its certainty first, for formats that keep it among them."""
    certainty = [("certainty", entity.certainty)] if entity.certainty is not None else []
    return [*certainty, *entity.attributes]


def refuse_attributes(document: Document, entity: Entity, form: str) -> None:
    """For formats of bare spans.

    Raises:
        DataError: the entity has more than a type.
    """
    if entity.certainty is not None or entity.attributes:
        raise DataError(
            f"{place_in(document, entity)} has a certainty or attributes, which {form} cannot hold; write brat, or "
            "leave them out first with corpus.spans_only"
        )
