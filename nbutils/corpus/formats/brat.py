"""brat standoff: a note as NAME.txt, its annotations beside it as NAME.ann (https://brat.nlplab.org/standoff.html).

Text-bound annotations and their attributes are read. Relations, events, normalisations and notes have no place in a
study of entities; they are counted, and the count is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbutils.corpus import CERTAINTIES, Corpus, Document, Entity
from nbutils.corpus.formats.offsets import offset_reader
from nbutils.corpus.formats.plain_text import document_id, file_for
from nbutils.corpus.formats.reading import Located, Read, Reading, Spans, attributes_of, check_spans, wanted_label
from nbutils.files import MAX_DIGITS, DataError, Fault, Place, bytes_of, decoded, only_utf8, text_of, write_whole
from nbutils.privacy import shown_id

TEXT_BOUND = re.compile(r"(T\S+)\t(\S+) ([0-9]+ [0-9]+(?:;[0-9]+ [0-9]+)*)\t(.*)", re.DOTALL)
ATTRIBUTE = re.compile(r"([AM]\S+)\t(\S+) (\S+)(?: (.*))?", re.DOTALL)
OTHER = {"R": "relations", "E": "events", "N": "normalisations", "#": "notes of the annotator", "*": "equivalences"}
_NOT_UTF8 = (
    "the .ann is UTF-8 and no other encoding, as brat always writes it: save the note as UTF-8, too, and leave out "
    "`encoding`"
)


@dataclass(frozen=True)
class _TextBound:
    label: str
    given: Spans  # offsets as the file has them
    quoted: str
    place: Place


@dataclass
class _Ann:
    """What one .ann says: text-bound annotations by id, in the order of the file, and the attributes of each."""

    bound: dict[str, _TextBound] = field(default_factory=dict)
    attributes: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    line_of: dict[str, int] = field(default_factory=dict)  # of every id
    targets: list[tuple[str, Place]] = field(default_factory=list)  # of attributes
    hint: str = ""  # what explains any quote that does not fit


def read_brat(path: Path, how: Reading, read: Read) -> None:
    """The note of one .txt file with the entities of its .ann; attributes stay with their entities.

    An attribute `certainty` with a value that MedTxt knows becomes the entity's certainty. Pieces of an entity that
    only a line break and the indentation around it divide are one entity, because brat writes one that runs across
    lines so.

    Faults: no .ann, a line that is none of brat's, an id twice, an entity whose text differs from the note's, is
    discontinuous (unless declared), empty, outside, or overlaps another one (unless declared).
    """
    where = how.at(path)
    text = text_of(path, how.encoding, where)
    ann = annotations_of(path)
    if ann is None:
        fix = "make an empty one if the note has no entity, or read bare notes with `format: text`"
        raise Fault(where, "there is no .ann of the same name beside it", fix)
    parsed = _parsed(ann, how, read)
    to_code_points = offset_reader(text, how.offsets)
    marked: list[Located] = []
    for id, b in parsed.bound.items():
        with read.noting():
            if not how.wants(b.label):
                wanted_label(b.label, how, read)
                continue
            spans = [(to_code_points(start), to_code_points(end)) for start, end in b.given]
            check_spans(b.place, spans, text, b.quoted, b.given, parsed.hint)
            certainty, further = _certainty(parsed.attributes.get(id, []))
            for start, end in _spans(_joined(spans, text), b, id, how, read):
                marked.append(Located(Entity(start, end, b.label, certainty, further), b.place))
    if how.discontinuous == "fragments":
        marked = _each_piece_once(marked, read)
    read.add(document_id(path, how.root), text, marked, how, where, annotated=bool(parsed.bound))


def annotations_of(path: Path) -> Path | None:
    """The .ann beside a .txt, whatever the case of its ending; None without one."""
    beside = (path.with_suffix(suffix) for suffix in (".ann", ".ANN", ".Ann"))
    return next((ann for ann in beside if ann.exists()), None)


def check_pairs(folder: Path, how: Reading, read: Read) -> None:
    """Every .ann needs its .txt, and every .txt one .ann; a missing .ann is noticed where the .txt is read."""
    files = sorted(p for p in folder.rglob("*") if not p.name.startswith("."))
    notes = {p.with_suffix("") for p in files if p.suffix.lower() == ".txt"}
    seen = set()
    for path in files:
        if path.suffix.lower() != ".ann":
            continue
        where = Place(path) if how.alias is None else Place(how.alias)
        if path.with_suffix("") not in notes:
            what = "there is an .ann without a .txt of the same name beside it"
            read.fault(where, what, "add the note or remove the annotations")
        elif path.with_suffix("") in seen:
            read.fault(where, "there is an .ann of the same name with another spelling of its ending", "keep one")
        seen.add(path.with_suffix(""))


def _parsed(path: Path, how: Reading, read: Read) -> _Ann:
    """The annotations of a file; what is no entity is counted."""
    where, encoding = how.at(path), how.encoding or "utf-8"
    data = bytes_of(path, where, empty=True)
    ann = _Ann(hint=_NOT_UTF8 if only_utf8(data, encoding, where) else "")
    try:
        content = decoded(where, data, encoding)
    except Fault as fault:
        raise Fault(fault.remark.place, fault.remark.what, ann.hint or fault.remark.fix, *fault.remark.says) from None
    # A quoted text may hold a CR, so CR ends a line only where nothing else does.
    for number, line in enumerate(content.split("\n" if "\n" in content else "\r"), 1):
        line, place = line.removesuffix("\r"), Place(f"{where}, line {number}")
        if line.strip():
            with read.noting():
                _parse_line(line, number, place, ann, read)
    for target, place in ann.targets:
        if target not in ann.line_of:
            read.fault(place, "there is no {} in this file", "correct or delete the attribute", target)
    return ann


def _parse_line(line: str, number: int, place: Place, ann: _Ann, read: Read) -> None:
    id = line.split("\t", 1)[0]
    if id != "*" and id in ann.line_of:
        what = "the id {} stands already in line {}"
        raise Fault(place, what, "every annotation needs its own", id, ann.line_of[id])
    ann.line_of[id] = number
    if match := TEXT_BOUND.fullmatch(line):
        numbers = re.findall("[0-9]+", match[3])
        if max(map(len, numbers)) > MAX_DIGITS:
            raise Fault(place, "an offset has more than {} digits", "correct it", MAX_DIGITS)
        given = list(zip(map(int, numbers[::2]), map(int, numbers[1::2]), strict=True))
        ann.bound[id] = _TextBound(match[2], given, match[4], place)
    elif match := ATTRIBUTE.fullmatch(line):
        if match[3].startswith("T"):
            ann.targets.append((match[3], place))
            ann.attributes.setdefault(match[3], []).append((match[2], "true" if match[4] is None else match[4]))
        else:
            read.skip("attributes of relations or events")
    elif line[0] in OTHER and "\t" in line:
        read.skip(OTHER[line[0]])
    else:
        fix = "an entity is T1, a tab, TYPE START END, a tab, its text"
        raise Fault(place, "no line of brat's standoff format", fix)


def _certainty(attributes: list[tuple[str, str]]) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """The certainty among an entity's attributes, and the other ones."""
    known = [(n, v) for n, v in attributes if n.lower() == "certainty" and v in CERTAINTIES][:1]
    return (known[0][1] if known else None), tuple(a for a in attributes if a not in known)


def _joined(spans: Spans, text: str) -> Spans:
    """The pieces in the order of the text, those joined that nothing, or a line break among blanks, divides."""
    joined: Spans = []
    for start, end in sorted(spans):
        between = text[joined[-1][1] : start] if joined and start >= joined[-1][1] else None
        if between is not None and (not between or (not between.strip() and re.search("[\r\n]", between))):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _spans(pieces: Spans, b: _TextBound, id: str, how: Reading, read: Read) -> Spans:
    """The spans of a text-bound annotation by the declared choice for discontinuous ones."""
    if len(pieces) == 1:
        return pieces
    shown = Place(";".join(f"{start} {end}" for start, end in pieces))
    cover = (pieces[0][0], max(end for _, end in pieces))
    if how.discontinuous == "fragments":
        read.tell(b.place, "{} is discontinuous ({}); each piece was read as an entity", id, shown)
        return pieces
    if how.discontinuous == "cover":
        read.tell(b.place, "{} is discontinuous ({}); it was read as {}–{}", id, shown, *cover)
        return [cover]
    fix = (
        "say `discontinuous: fragments` (one entity per piece) or `discontinuous: cover` (from the first piece to the "
        "last) in the study file"
    )
    raise Fault(b.place, "{} is discontinuous ({})", fix, id, shown)


def _each_piece_once(marked: list[Located], read: Read) -> list[Located]:
    """Without pieces that two discontinuous entities share (右肺と左肺の腫瘤): such a piece is one entity."""
    first: dict[tuple[int, int, str], Located] = {}
    for one in marked:
        other = first.setdefault(one.entity.key, one)
        if other is not one:
            place = Place(other.place.rsplit(", ", 1)[-1])
            says = (one.entity.start, one.entity.end, place)
            read.tell(one.place, "the piece {}–{} stands already in {} and was read once", *says)
    return list(first.values())


def write_brat(corpus: Corpus, folder: Path) -> None:
    """One .txt and one .ann per document; certainty and attributes as brat's attributes, a score as a note."""
    for document in corpus:
        path = file_for(document, folder)
        write_whole(path, document.text, private=corpus.private)
        annotations = "".join(f"{line}\n" for line in _lines(document))
        write_whole(path.with_suffix(".ann"), annotations, private=corpus.private)


def _lines(document: Document) -> Iterator[str]:
    n_attributes = 0
    for number, entity in enumerate(sorted(document.entities), 1):
        pieces = [
            (entity.start + m.start(), entity.start + m.end())
            for m in re.finditer(r"[^\r\n]+", document.surface(entity))
        ]
        if not pieces or (pieces[0][0], pieces[-1][1]) != (entity.start, entity.end):
            raise DataError(
                f'document "{shown_id(document)}": the entity {entity.start}–{entity.end} begins or ends with a line '
                "break, which brat cannot hold; write JSONL instead"
            )
        shown = ";".join(f"{start} {end}" for start, end in pieces)
        yield f"T{number}\t{entity.label} {shown}\t{' '.join(document.text[a:b] for a, b in pieces)}"
        for name, value in attributes_of(entity):
            n_attributes += 1
            yield f"A{n_attributes}\t{name} T{number} {value}"
        if entity.score is not None:
            yield f"#{number}\tAnnotatorNotes T{number}\tscore {entity.score:.3f}"
