"""brat standoff: a note as NAME.txt, its annotations beside it as NAME.ann (https://brat.nlplab.org/standoff.html).

Knows text-bound annotations and their attributes. Relations, events, normalisations and notes have no place in a study
of entities; they are counted, and the count is reported.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats.medtxt import CERTAINTIES
from nbutils.corpus.formats.plain_text import document_id, file_for
from nbutils.corpus.formats.reading import Located, Read, Reading, label_of, offset_reader, settled
from nbutils.files import DataError, decoded, text_of, written_whole

TEXT_BOUND = re.compile(r"(T\S+)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)\t(.*)", re.DOTALL)
ATTRIBUTE = re.compile(r"([AM]\S+)\t(\S+) (\S+)(?: (.*))?", re.DOTALL)
OTHER = {"R": "relations", "E": "events", "N": "normalisations", "#": "notes of the annotator", "*": "equivalences"}


@dataclass(frozen=True)
class _TextBound:
    id: str
    label: str
    fragments: tuple[tuple[int, int], ...]
    place: str


def check_pairs(folder: Path) -> None:
    """Every .ann needs its .txt; the other direction is checked where the .txt is read."""
    for path in sorted(folder.rglob("*.ann")):
        if not path.name.startswith(".") and not path.with_suffix(".txt").exists():
            raise DataError(f"{path}: there is no {path.stem}.txt beside it; add the note or remove the annotations")


def read_brat(path: Path, how: Reading) -> Read:
    """The note of one .txt file with the entities of its .ann; attributes stay with their entities.

    An attribute `certainty` with a value that MedTxt knows becomes the entity's certainty. Pieces of an entity that
    only a line break divides are one entity, because brat has no other way to write one that runs across lines.

    Raises:
        DataError: no .ann, a line that is none of brat's, a double id, an entity whose text differs from the note's,
            is discontinuous (unless declared), empty, outside, or overlaps another one (unless declared).
    """
    text, ann = text_of(path, how.encoding), path.with_suffix(".ann")
    if not ann.exists():
        raise DataError(f"{path}: there is no {ann.name} beside it; make an empty one if the note has no entity")
    read = Read([])
    bound, attributes = _parsed(ann, decoded(ann, ann.read_bytes(), how.encoding or "utf-8"), text, how, read)
    found: list[Located] = []
    n_pieces = Counter(len(b.fragments) > 1 for b in bound)[True]
    for b in bound:
        label = label_of(b.label, how, read)
        if label is None:
            continue
        certainty, further = None, []
        for name, value in attributes.get(b.id, []):
            if name.lower() == "certainty" and value in CERTAINTIES and certainty is None:
                certainty = value
            else:
                further.append((name, value))
        for start, end in _spans(b, how, read, n_pieces):
            found.append(Located(Entity(start, end, label, certainty, tuple(further)), b.place))
    if how.discontinuous == "fragments":
        found = _without_twins(found, read)
    read.documents = [Document(document_id(path, how.root), text, settled(found, text, how, read))]
    return read


def _parsed(
    ann: Path, content: str, text: str, how: Reading, read: Read
) -> tuple[list[_TextBound], dict[str, list[tuple[str, str]]]]:
    """Text-bound annotations in the order of the file, and the attributes of each; all else is counted."""
    bound: list[_TextBound] = []
    attributes: dict[str, list[tuple[str, str]]] = {}
    targets: list[tuple[str, str]] = []
    line_of: dict[str, int] = {}
    place_in_text = offset_reader(text, how.offsets)
    for number, line in enumerate(content.split("\n"), 1):
        line, place = line.removesuffix("\r"), f"{ann}, line {number}"
        if not line.strip():
            continue
        id = line.split("\t", 1)[0]
        if id != "*" and id in line_of:
            raise DataError(
                f"{place}: the id {id} stands already in line {line_of[id]}; every annotation needs its own"
            )
        line_of[id] = number
        if match := TEXT_BOUND.fullmatch(line):
            fragments = [tuple(map(int, f.split(" "))) for f in match[3].split(";")]
            bound.append(_text_bound(match, [tuple(map(place_in_text, f)) for f in fragments], fragments, text, place))
        elif match := ATTRIBUTE.fullmatch(line):
            if match[3].startswith("T"):
                targets.append((match[3], place))
                attributes.setdefault(match[3], []).append((match[2], "true" if match[4] is None else match[4]))
            else:
                read.left_out["attributes of relations or events"] += 1
        elif line[0] in OTHER and "\t" in line:
            read.left_out[OTHER[line[0]]] += 1
        else:
            raise DataError(
                f"{place}: no line of brat's standoff format; an entity is T1, a tab, TYPE START END, a tab, its text"
            )
    known = {b.id for b in bound}
    for target, place in targets:
        if target not in known:
            raise DataError(f"{place}: there is no {target} in this file; correct or delete the attribute")
    return bound, attributes


def _text_bound(
    match: re.Match[str], fragments: list[tuple[int, ...]], given: list[tuple[int, ...]], text: str, place: str
) -> _TextBound:
    """One T line, held against the text: what it quotes must stand at its offsets."""
    for start, end in fragments:
        if not 0 <= start <= end <= len(text):
            raise DataError(
                f"{place}: {match[1]} ({match[3]}) does not lie in the text (0–{len(text)}); mend its offsets"
                f"{_hint(match[4], given, text)}"
            )
        if start == end:
            raise DataError(f"{place}: {match[1]} ({match[3]}) is empty; give it its characters or delete it")
    if _quoted(text, fragments) != _one_line(match[4]):
        raise DataError(
            f"{place}: {match[1]} quotes another text than stands at {match[3]} in the note; mend its offsets"
            f"{_hint(match[4], given, text)}"
        )
    return _TextBound(match[1], match[2], _joined(fragments, text), place)


def _joined(fragments: list[tuple[int, ...]], text: str) -> tuple[tuple[int, int], ...]:
    """The pieces in the order of the text, those joined that nothing or only a line break divides."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(fragments):
        if joined and start >= joined[-1][1] and not text[joined[-1][1] : start].strip("\r\n"):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)


def _hint(quoted: str, given: list[tuple[int, ...]], text: str) -> str:
    """The usual causes of shifted offsets, where one of them explains this entity."""
    in_units = offset_reader(text, "utf16")
    if _quoted(text, [(max(in_units(s), 0), max(in_units(e), 0)) for s, e in given]) == _one_line(quoted):
        return " (they fit if they count UTF-16 code units: say `offsets: utf16` in the study file)"
    causes = {
        " (they fit if CRLF counts as one character: save the note with LF line ends)": (text.replace("\r\n", "\n"), 0),
        " (they fit if the file's byte-order mark counts: save the note without it)": (text, -1),
    }
    for cause, (other, shift) in causes.items():
        moved = [(start + shift, end + shift) for start, end in given]
        if other != text or shift:
            inside = all(0 <= start < end <= len(other) for start, end in moved)
            if inside and _quoted(other, moved) == _one_line(quoted):
                return cause
    return ""


def _quoted(text: str, fragments: list[tuple[int, ...]]) -> str:
    return _one_line(" ".join(text[start:end] for start, end in fragments))


def _one_line(text: str) -> str:
    """How brat quotes a text: line breaks become a space."""
    return re.sub(r"[\r\n]+", " ", text)


def _spans(b: _TextBound, how: Reading, read: Read, n_pieces: int) -> list[tuple[int, int]]:
    """The spans of a text-bound annotation by the declared choice for discontinuous ones."""
    if len(b.fragments) == 1:
        return list(b.fragments)
    shown = ";".join(f"{start} {end}" for start, end in b.fragments)
    if how.discontinuous == "fragments":
        read.notices.append(f"{b.place}: {b.id} is discontinuous ({shown}); each piece was read as an entity")
        return list(b.fragments)
    cover = (b.fragments[0][0], max(end for _, end in b.fragments))
    if how.discontinuous == "cover":
        read.notices.append(f"{b.place}: {b.id} is discontinuous ({shown}); it was read as {cover[0]}–{cover[1]}")
        return [cover]
    raise DataError(
        f"{b.place}: {b.id} is discontinuous ({shown}; {n_pieces} such in this file); say `discontinuous: fragments` "
        "(an entity a piece) or `discontinuous: cover` (from the first piece to the last) in the study file"
    )


def _without_twins(found: list[Located], read: Read) -> list[Located]:
    """Without pieces that two discontinuous entities share (右肺と左肺の腫瘤): such a piece is one entity."""
    first: dict[tuple[int, int, str], Located] = {}
    for one in found:
        other = first.setdefault(one.entity.key, one)
        if other is not one:
            place = other.place.rsplit(", ", 1)[-1]
            start, end = one.entity.start, one.entity.end
            read.notices.append(f"{one.place}: the piece {start}–{end} stands already in {place} and was read once")
    return list(first.values())


def write_brat(corpus: Corpus, folder: Path) -> None:
    """One .txt and one .ann a document; certainty and attributes as brat's attributes."""
    for document in corpus:
        path = file_for(document, folder)
        with written_whole(path) as file:
            file.write(document.text)
        with written_whole(path.with_suffix(".ann")) as file:
            file.writelines(f"{line}\n" for line in _lines(document))


def _lines(document: Document) -> Iterator[str]:
    n_attributes = 0
    for number, entity in enumerate(sorted(document.entities), 1):
        pieces = [
            (entity.start + m.start(), entity.start + m.end())
            for m in re.finditer(r"[^\r\n]+", document.surface(entity))
        ]
        if not pieces or (pieces[0][0], pieces[-1][1]) != (entity.start, entity.end):
            raise DataError(
                f'document "{document.id}": the entity {entity.start}–{entity.end} begins or ends with a line break, '
                "which brat cannot hold; write JSONL instead"
            )
        shown = ";".join(f"{start} {end}" for start, end in pieces)
        yield f"T{number}\t{entity.label} {shown}\t{' '.join(document.text[a:b] for a, b in pieces)}"
        certainty = [("certainty", entity.certainty)] if entity.certainty is not None else []
        for name, value in [*certainty, *entity.attributes]:
            n_attributes += 1
            yield f"A{n_attributes}\t{name} T{number} {value}"
