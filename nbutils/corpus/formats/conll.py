"""CoNLL columns with IOB2 labels: one token per line, its label in the last column, blank lines between sentences.

The file does not say how tokens make a text, so the user does (`join`); with offsets in the second and third column and
the text in a `# text =` line, as written here, the text comes back exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbutils.corpus import Corpus, Document, Entity, place_in
from nbutils.corpus.formats.reading import Located, Read, Reading, refuse_attributes
from nbutils.files import MAX_DIGITS, DataError, Fault, Place, json_of, rows_of, text_of, written_whole

LABEL = re.compile(r"O|[BI]-\S+")
COMMENT = re.compile(r"# (id|meta|text) = (.*)")  # as in CoNLL-U; a token "#" is followed by its columns, not by these
MAX_OFFSET = 10_000_000  # characters; gaps between tokens are filled up, so an offset costs memory


@dataclass(frozen=True)
class _Token:
    word: str
    label: str
    place: Place
    offsets: tuple[int, int] = (0, 0)  # as the file has them, if it does


@dataclass
class _Note:
    """The lines of one document: sentences of tokens, and what comments say."""

    place: Place
    id: str | None = None
    text: str | None = None
    meta: dict[str, str] = field(default_factory=dict)
    sentences: list[list[_Token]] = field(default_factory=lambda: [[]])

    def is_empty(self) -> bool:
        return self.sentences == [[]] and self.text is None and self.id is None

    def spoken(self) -> list[list[_Token]]:
        return [sentence for sentence in self.sentences if sentence]


def read_conll(path: Path, how: Reading, read: Read) -> None:
    """The documents of one file. Ids are those of `# id =` lines, else the file's name and the document's number.

    Faults: `join` or, without -DOCSTART-, `documents` is not declared; a number of columns that changes; a label that
    is not IOB2; offsets that do not fit.
    """
    where = how.at(path)
    if how.join is None:
        ways = "`join: none` (Japanese), `join: space` (English) or `join: offsets` (columns 2 and 3)"
        raise Fault(where, "the file does not say how tokens make a text", f"say {ways} in the study file")
    notes = list(_notes(where, text_of(path, how.encoding, where), how, read))
    for number, note in enumerate(notes, 1):
        with read.noting():
            text, offsets = _text(note, how, read)
            marked = [Located(Entity(*span), place) for *span, place in _spans(note, offsets, read)]
            id = note.id or (path.stem if how.documents == "file" else f"{path.stem}-{number:03d}")
            read.add(id, text, marked, how, note.place, meta=note.meta)


def _notes(where: Place, content: str, how: Reading, read: Read) -> Iterator[_Note]:
    """The file cut into documents, as -DOCSTART- lines or the user say."""
    rows = rows_of(content)
    begun = [line.startswith("-DOCSTART-") for line in rows]
    way = how.documents or ("docstart" if any(begun) else None)
    if way is None or (way == "docstart" and not any(begun)):
        fix = (
            "say `documents: blank` (blank lines divide notes) or `documents: file` (the file is one note) in the "
            "study file"
        )
        raise Fault(where, "there is no -DOCSTART- line", fix)
    note: _Note | None = None
    columns = _Columns(how)
    for number, line in enumerate(rows, 1):
        place = Place(f"{where}, line {number}")
        if begun[number - 1]:
            if note and not note.is_empty():
                yield note
            note = _Note(place)
        elif line.strip(" \t"):
            with read.noting():
                if note is None and way == "docstart":
                    fix = "begin the first note with that line, too"
                    raise Fault(place, "tokens before the first -DOCSTART-", fix)
                note = note or _Note(place)
                if match := COMMENT.fullmatch(line):
                    _comment(note, match[1], match[2], place)
                else:
                    note.sentences[-1].append(columns.token(line, number, place))
        elif note and note.sentences[-1]:
            if way == "blank":
                yield note
                note = None
            else:
                note.sentences.append([])
    if note and not note.is_empty():
        yield note


def _comment(note: _Note, key: str, value: str, place: Place) -> None:
    fix = "put text in double quotes, as JSON does"
    value = json_of(value, place, fix)
    fits, needed = isinstance(value, str), "a JSON string"
    if key == "meta":
        fits = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        needed = "a JSON object of strings"
    if not fits:
        raise Fault(place, "behind `# {} =` {} is needed", fix, Place(key), Place(needed))
    setattr(note, key, value)


@dataclass
class _Columns:
    """Lines of one file cut into columns, the number of which the first line sets."""

    how: Reading
    first: tuple[int, int] | None = None  # columns, line

    def token(self, line: str, number: int, place: Place) -> _Token:
        """Columns at tabs, else at blanks (U+0020); any other white space, such as U+3000, belongs to the token."""
        columns = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
        needed = 4 if self.how.join == "offsets" else 2
        if len(columns) < needed or not columns[0]:
            fix = "the label is the last one; columns are divided by a tab or by blanks"
            raise Fault(place, "{} columns where {} at least are needed", fix, len(columns), needed)
        self.first = self.first or (len(columns), number)
        if len(columns) != self.first[0]:
            fix = "every line needs the same columns; divide them by tabs if tokens hold blanks"
            raise Fault(place, "{} columns where line {} has {}", fix, len(columns), self.first[1], self.first[0])
        if not LABEL.fullmatch(columns[-1]):
            raise Fault(place, 'the label "{}" is not IOB2', "use O, B-TYPE and I-TYPE", columns[-1])
        if self.how.join != "offsets":
            return _Token(columns[0], columns[-1], place)
        if not all(re.fullmatch("[0-9]+", c) for c in columns[1:3]):
            fix = "say `join: none` or `join: space`, or correct them"
            raise Fault(place, "columns 2 and 3 are no offsets", fix)
        if any(len(c) > MAX_DIGITS or int(c) > MAX_OFFSET for c in columns[1:3]):
            raise Fault(place, "an offset lies beyond {} characters", "correct it", Place(f"{MAX_OFFSET:,}"))
        return _Token(columns[0], columns[-1], place, (int(columns[1]), int(columns[2])))


def _text(note: _Note, how: Reading, read: Read) -> tuple[str, list[list[tuple[int, int]]]]:
    """The note's text and the offsets of every token in it.

    With `join: offsets` it is the declared text; without one the gaps between tokens become spaces, or a line break
    between sentences.
    """
    pieces, offsets, at = [], [], 0
    for k, sentence in enumerate(note.spoken()):
        offsets.append([])
        for j, token in enumerate(sentence):
            if how.join == "offsets":
                gap = " " * (_checked_start(token, at, note.text) - at)
                before = "\n" + gap[1:] if k and not j and gap else gap
            else:
                before = (" " if how.join == "space" else "") if j else "\n" if k else ""
            pieces += [before, token.word]
            start, at = at + len(before), at + len(before) + len(token.word)
            offsets[-1].append((start, at))
    if how.join != "offsets":
        return "".join(pieces), offsets
    if note.text is None:
        read.skip("texts between tokens, where spaces stand now (there is no `# text =` line)")
    return "".join(pieces) if note.text is None else note.text, offsets


def _checked_start(token: _Token, at: int, text: str | None) -> int:
    start, end = token.offsets
    if start < at or end - start != len(token.word):
        what = "the offsets {}–{} do not fit the token or overlap the one before"
        raise Fault(token.place, what, "correct them", start, end)
    if text is not None and text[start:end] != token.word:
        what = "the `# text =` of this note has other characters at {}–{}"
        raise Fault(token.place, what, "correct the offsets or the text", start, end)
    return start


def _spans(note: _Note, offsets: list[list[tuple[int, int]]], read: Read) -> Iterator[tuple[int, int, str, Place]]:
    """Start, end, type and place of every entity; what is not IOB2 is a fault."""
    for sentence, spans in zip(note.spoken(), offsets, strict=True):
        open_: tuple[int, int, str, Place] | None = None
        for token, (start, end) in zip(sentence, spans, strict=True):
            mark, _, kind = token.label.partition("-")
            if mark == "I" and open_ is not None and open_[2] == kind:
                open_ = (open_[0], end, kind, open_[3])
                continue
            if open_:
                yield open_
            open_ = None if mark == "O" else (start, end, kind, token.place)
            if mark == "I":
                fix = "in IOB2 an entity begins with B-TYPE"
                read.fault(token.place, "{} follows no entity of its type", fix, token.label)
        if open_:
            yield open_


def write_conll(corpus: Corpus, path: Path) -> None:
    """One token per character that is no white space, with offsets; ids, meta and texts in comment lines."""
    with written_whole(path, private=corpus.private) as file:
        for document in corpus:
            file.writelines(f"{line}\n" for line in _lines(document))


def _lines(document: Document) -> Iterator[str]:
    yield "-DOCSTART-"
    for key, value in (("id", document.id), ("meta", dict(document.meta)), ("text", document.text)):
        if value or key != "meta":
            yield f"# {key} = {json.dumps(value, ensure_ascii=False)}"
    labels = ["O"] * len(document.text)
    for e in document.entities:
        refuse_attributes(document, e, "IOB2")
        if any(document.text[k].isspace() for k in (e.start, e.end - 1)):
            what = "begins or ends with white space, which is no token; write JSONL instead"
            raise DataError(f"{place_in(document, e)} {what}")
        labels[e.start : e.end] = [f"I-{e.label}"] * (e.end - e.start)
        labels[e.start] = f"B-{e.label}"
    line_break = False
    for k, character in enumerate(document.text):
        if character.isspace():
            line_break |= character == "\n"
            continue
        if line_break and not labels[k].startswith("I-"):
            yield ""
        line_break = False
        yield f"{character}\t{k}\t{k + 1}\t{labels[k]}"
    yield ""
