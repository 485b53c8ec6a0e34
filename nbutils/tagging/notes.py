"""Notes to be tagged, read one at a time: plain text, JSON Lines or MedTxt XML, in files or folders of any size.

Entities that a file may hold already are passed over. Encodings are named, never guessed, and no sentence of an error
quotes a note or its id.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from nbutils.corpus import Document
from nbutils.corpus.formats import read_corpus
from nbutils.corpus.formats.jsonl import jsonl_document
from nbutils.corpus.formats.plain_text import document_id
from nbutils.files import MAX_BYTES, DataError, Fault, bytes_of, codec_of, decoded, opened

SUFFIXES = (".txt", ".jsonl", ".xml")
MARKS = {  # UTF-32 before UTF-16, whose mark is the beginning of it
    "utf-8": (codecs.BOM_UTF8,),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


@dataclass(frozen=True)
class Survey:
    """What one pass over all notes found, before any of them is tagged."""

    n_notes: int
    fingerprint: str  # of every id, text and meta, in order
    first_marked: str | None = None  # the first text or JSON Lines file that begins with a byte-order mark
    n_marked: int = 0


def read_notes(path: str | Path, encoding: str | None = None) -> Iterator[Document]:
    """Every note in a file, or in a folder and its folders, by name; one note, or one XML file, in memory at a time.

    A `.txt` file is a note, its name without the ending the id. Texts come as they are, line ends included; a
    byte-order mark is not part of a text. Files whose name begins with a dot are passed over.

    Args:
        encoding: of text and JSON Lines (default UTF-8); XML says its own.

    Raises:
        DataError: anything that is not plainly right, such as a file of another kind or bytes of another encoding.
    """
    path = Path(path)
    for file in _files(path):
        if file.suffix.lower() == ".txt":
            yield Document(document_id(file, path if path.is_dir() else None), _text(file, encoding))
        elif file.suffix.lower() == ".jsonl":
            yield from _json_lines(file, encoding)
        else:
            yield from _articles(file)


def _articles(file: Path) -> Iterator[Document]:
    """The notes of a MedTxt file; read as private, so that no sentence quotes them, and then as any other note."""
    try:
        corpus = read_corpus(file, private=True, unannotated=True)
    except DataError as error:
        raise DataError(str(error).replace("the private corpus", str(file))) from None
    yield from (Document(d.id, d.text, (), d.meta) for d in corpus)


def survey(path: str | Path, encoding: str | None = None) -> Survey:
    """Read every note once: a faulty one is found before hours of tagging, not after. Keeps 8 bytes a note.

    Raises:
        DataError: as `read_notes`; no note at all; or an id that stands twice.
    """
    path = Path(path)
    ids, digest = array("Q"), hashlib.sha256()
    for note in read_notes(path, encoding):
        ids.append(_short_hash(note.id))
        digest.update(json.dumps([note.id, note.text, dict(note.meta)]).encode("ascii"))
    if not ids:
        raise DataError(f"{path}: there is no note in it (looked for {', '.join(SUFFIXES)}); correct the path")
    _check_ids(path, encoding, np.frombuffer(ids, np.uint64))
    marked = (str(file) for file in _files(path) if _mark(file))
    first = next(marked, None)
    return Survey(len(ids), digest.hexdigest()[:16], first, (first is not None) + sum(1 for _ in marked))


def _check_ids(path: Path, encoding: str | None, hashes: np.ndarray) -> None:
    ordered = np.sort(hashes)
    suspects = {int(h) for h in ordered[1:][ordered[1:] == ordered[:-1]]}
    seen: dict[str, int] = {}
    for number, note in enumerate(read_notes(path, encoding) if suspects else (), 1):
        if note.id in seen:
            raise DataError(
                f"{path}: notes {seen[note.id]:,} and {number:,}, counted in the order of the files' names, have the "
                "same id; give every note an id of its own"
            )
        if _short_hash(note.id) in suspects:
            seen[note.id] = number


def _short_hash(id: str) -> int:
    return int.from_bytes(hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest()[:8])


def _files(path: Path, within: tuple[str, ...] = ()) -> Iterator[Path]:
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such file or folder of notes; correct the path")
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path}: neither {', '.join(SUFFIXES[:-1])} nor {SUFFIXES[-1]}; take it out or rename it")
        yield path
        return
    place = os.path.realpath(path)
    if place in within:
        raise DataError(f"{path}: the folder lies, by a link, in itself; remove the link")
    for entry in sorted(os.listdir(path)):
        if not entry.startswith("."):
            yield from _files(path / entry, (*within, place))


def _text(file: Path, encoding: str | None) -> str:
    data = bytes_of(file, empty=True)
    _check_mark(file, data[:4], encoding or "utf-8")
    return decoded(file, data, encoding or "utf-8")


def _json_lines(file: Path, encoding: str | None) -> Iterator[Document]:
    encoding = encoding or "utf-8"
    codec_of(encoding, str(file))
    if _family(encoding) in ("utf-16", "utf-32"):
        raise DataError(f"{file}: JSON Lines cannot be read line by line in {encoding}; save the file as UTF-8")
    with opened(file) as lines:
        for number, line in enumerate(_rows(lines, file), 1):
            if number == 1:
                _check_mark(file, line[:4], encoding)
            if line.strip():
                where = f"{file}, line {number}"
                yield jsonl_document(decoded(where, line, encoding), where, bare=True)


def _rows(lines: IO[bytes], file: Path) -> Iterator[bytes]:
    """The lines of a file, one in memory at a time, divided at LF, CRLF or CR."""
    number = 0
    while line := lines.readline(MAX_BYTES + 1):
        for row in re.split(rb"\r(?!\n)", line):
            number += 1
            if len(row) > MAX_BYTES:
                raise Fault(f"{file}, line {number}", "the line is too long for a note", "cut the note into several")
            yield row


def _mark(file: Path) -> str | None:
    """The family of encodings whose byte-order mark a text or JSON Lines file begins with."""
    if file.suffix.lower() == ".xml":
        return None
    with opened(file) as data:
        return _mark_of(data.read(4))


def _mark_of(head: bytes) -> str | None:
    return next((family for family, marks in MARKS.items() if head.startswith(marks)), None)


def _family(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        return encoding
    return next((family for family in MARKS if name.startswith(family)), name)


def _check_mark(file: Path, head: bytes, encoding: str) -> None:
    """A byte-order mark that contradicts the named encoding, and UTF-16 or -32 without any, are not guessed at."""
    mark = _mark_of(head)
    if mark is not None and mark != _family(encoding):
        raise DataError(
            f"{file}: begins with the byte-order mark of {mark.upper()}, but is read as {encoding}; "
            f"name the true encoding, such as ENCODING={mark}"
        )
    if mark is None and encoding.lower().replace("_", "-") in ("utf-16", "utf-32", "utf16", "utf32") and head:
        raise DataError(f"{file}: no byte-order mark says which {encoding} it is; name {encoding}-le or {encoding}-be")
