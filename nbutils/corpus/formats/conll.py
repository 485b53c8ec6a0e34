"""CoNLL columns with IOB2 labels: a token a line, its label in the last column, blank lines between sentences.

Knows tokens and labels. The file does not say how tokens make a text, so the user does (`join`); with offsets in the
second and third column and the text in a `# text =` line, as written here, the text comes back exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats.reading import Located, Read, Reading, label_of, settled
from nbutils.files import DataError, text_of, written_whole

LABEL = re.compile(r"O|[BI]-\S+")
COMMENT = re.compile(r"# (id|meta|text) = (.*)")  # as in CoNLL-U; a token "#" is followed by its columns, not by these


@dataclass
class _Note:
    """The lines of one document: tokens with their offsets if given, sentences, and what comments say."""

    place: str
    comments: dict[str, object] = field(default_factory=dict)
    sentences: list[list[tuple[str, tuple[int, int] | None, str, str]]] = field(default_factory=lambda: [[]])


def read_conll(path: Path, how: Reading) -> Read:
    """The documents of one file. Ids are those of `# id =` lines, else the file's name and the document's number.

    Raises:
        DataError: `join` or, without -DOCSTART-, `documents` is not declared; a label that is not IOB2; offsets that
            do not fit.
    """
    if how.join is None:
        raise DataError(
            f"{path}: the file does not say how tokens make a text; say `join: none` (Japanese), `join: space` "
            "(English) or `join: offsets` (columns 2 and 3) in the study file"
        )
    notes = list(_notes(path, text_of(path, how.encoding), how))
    read = Read([])
    for number, note in enumerate(notes, 1):
        id = note.comments.get("id", path.stem if how.documents == "file" else f"{path.stem}-{number:03d}")
        text, offsets = _text(note, how, read)
        found: list[Located] = []
        for start, end, label, place in _spans(note, offsets):
            named = label_of(label, how, read)
            if named is not None:
                found.append(Located(Entity(start, end, named), place))
        read.documents.append(Document(str(id), text, settled(found, text, how, read), note.comments.get("meta", {})))
    return read


def _notes(path: Path, content: str, how: Reading) -> Iterator[_Note]:
    """The file cut into documents, as -DOCSTART- lines or the user say."""
    rows = [line.removesuffix("\r") for line in content.split("\n")]
    begun = [line.startswith("-DOCSTART-") for line in rows]
    way = how.documents or ("docstart" if any(begun) else None)
    if way is None or (way == "docstart" and not any(begun)):
        raise DataError(
            f"{path}: there is no -DOCSTART- line; say `documents: blank` (blank lines divide notes) or "
            "`documents: file` (the file is one note) in the study file"
        )
    note: _Note | None = None
    for number, line in enumerate(rows, 1):
        place = f"{path}, line {number}"
        if begun[number - 1]:
            if note:
                yield from _if_any(note)
            note = _Note(place)
        elif line.strip(" \t"):
            if note is None and way == "docstart":
                raise DataError(
                    f"{place}: tokens before the first -DOCSTART-; begin the first note with that line, too"
                )
            note = note or _Note(place)
            if match := COMMENT.fullmatch(line):
                note.comments[match[1]] = _comment(match, place)
            else:
                note.sentences[-1].append(_token(line, place, how))
        elif note and note.sentences[-1]:
            if way == "blank":
                yield note
                note = None
            else:
                note.sentences.append([])
    if note:
        yield from _if_any(note)


def _if_any(note: _Note) -> Iterator[_Note]:
    if note.sentences != [[]] or note.comments:
        yield note


def _comment(match: re.Match[str], place: str) -> object:
    try:
        value = json.loads(match[2])
    except (ValueError, RecursionError):
        value = None
    fits = isinstance(value, str)
    if match[1] == "meta":
        fits = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    if not fits:
        raise DataError(f"{place}: after `# {match[1]} =` a JSON string (for meta an object of strings) is needed")
    return value


def _token(line: str, place: str, how: Reading) -> tuple[str, tuple[int, int] | None, str, str]:
    """Token, offsets if they are declared, label and place of one line; columns at tabs, else at spaces."""
    columns = line.split("\t") if "\t" in line else line.split()
    needed = 4 if how.join == "offsets" else 2
    if len(columns) < needed or not columns[0]:
        raise DataError(
            f"{place}: {len(columns)} columns where {needed} at least are needed; the label is the last one"
        )
    if not LABEL.fullmatch(columns[-1]):
        raise DataError(f'{place}: the label "{columns[-1]}" is not IOB2; use O, B-TYPE and I-TYPE')
    offsets = None
    if how.join == "offsets":
        if not (columns[1].isdecimal() and columns[2].isdecimal()):
            raise DataError(f"{place}: columns 2 and 3 are no offsets; say `join: none` or `join: space`, or mend them")
        offsets = int(columns[1]), int(columns[2])
    return columns[0], offsets, columns[-1], place


def _text(note: _Note, how: Reading, read: Read) -> tuple[str, list[list[tuple[int, int]]]]:
    """The note's text and the offsets of every token in it."""
    if how.join == "offsets":
        return _text_by_offsets(note, read)
    between = " " if how.join == "space" else ""
    pieces, offsets, at = [], [], 0
    for k, sentence in enumerate(s for s in note.sentences if s):
        offsets.append([])
        for j, (token, *_) in enumerate(sentence):
            before = between if j else "\n" if k else ""
            pieces.append(before + token)
            offsets[-1].append((at + len(before), at + len(before) + len(token)))
            at += len(before) + len(token)
    return "".join(pieces), offsets


def _text_by_offsets(note: _Note, read: Read) -> tuple[str, list[list[tuple[int, int]]]]:
    """The declared text; without one the gaps between tokens become spaces, or a line break between sentences."""
    declared, pieces, offsets, at = note.comments.get("text"), [], [], 0
    for k, sentence in enumerate(s for s in note.sentences if s):
        offsets.append([])
        for j, (token, (start, end), _, place) in enumerate(sentence):
            if start < at or end - start != len(token):
                raise DataError(f"{place}: the offsets {start}–{end} do not fit the token or overlap the one before")
            if declared is not None and declared[start:end] != token:
                raise DataError(f"{place}: the `# text =` of this note has other characters at {start}–{end}")
            gap = " " * (start - at)
            pieces += ["\n" + gap[1:] if k and not j and gap else gap, token]
            offsets[-1].append((start, end))
            at = end
    if declared is None:
        read.left_out["texts between tokens, where spaces stand now (there is no `# text =` line)"] += 1
    return "".join(pieces) if declared is None else str(declared), offsets


def _spans(note: _Note, offsets: list[list[tuple[int, int]]]) -> Iterator[tuple[int, int, str, str]]:
    """Start, end, type and place of every entity; refuses what is not IOB2."""
    for sentence, spans in zip((s for s in note.sentences if s), offsets, strict=True):
        open_: tuple[int, int, str, str] | None = None
        for (*_, label, place), (start, end) in zip(sentence, spans, strict=True):
            mark, _, kind = label.partition("-")
            if mark == "I":
                if open_ is None or open_[2] != kind:
                    raise DataError(
                        f"{place}: {label} follows no entity of its type; in IOB2 an entity begins with B-{kind}"
                    )
                open_ = (open_[0], end, kind, open_[3])
                continue
            if open_:
                yield open_
            open_ = (start, end, kind, place) if mark == "B" else None
        if open_:
            yield open_


def write_conll(corpus: Corpus, path: Path) -> None:
    """One token a character that is no white space, with offsets; ids, meta and texts in comment lines."""
    with written_whole(path) as file:
        for document in corpus:
            file.writelines(f"{line}\n" for line in _lines(document))


def _lines(document: Document) -> Iterator[str]:
    yield "-DOCSTART-"
    for key, value in (("id", document.id), ("meta", dict(document.meta)), ("text", document.text)):
        if value or key != "meta":
            yield f"# {key} = {json.dumps(value, ensure_ascii=False)}"
    labels = ["O"] * len(document.text)
    for e in document.entities:
        if e.certainty is not None or e.attributes:
            raise DataError(
                f'document "{document.id}": entity {e.start}–{e.end} has a certainty or attributes, which IOB2 cannot '
                "hold; write brat, or leave them out first with corpus.spans_only"
            )
        if any(document.text[k].isspace() for k in (e.start, e.end - 1)):
            raise DataError(
                f'document "{document.id}": entity {e.start}–{e.end} begins or ends with white space, which is no '
                "token; write JSONL instead"
            )
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
