"""JMED-LLM's CSV files: documents with gold *strings*, which are projected onto the text as silver spans."""

from __future__ import annotations

import ast
import csv
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from nbutils import files
from nbutils.corpus import Entity
from nbutils.corpus.formats.reading import Located, Read, Reading
from nbutils.files import Fault, Place, text_of

_AGAIN = "download the file again"


def read_jmed(path: Path, how: Reading, read: Read) -> None:
    """Case reports or nursing records of a JMED-LLM CSV file (its rows with tag `d`), with *silver* spans.

    The file gives strings without offsets. Each string is marked at every place where it occurs, the longest string
    first, and no place is marked twice; so a string that is an entity here and not there is marked in both places.
    JMED-LLM holds the names of MedTxt that are of the certainty `positive`, so the spans are given that certainty.
    Documents are named after the file and the row's number among the `d` rows (`CRNER-001`).
    """
    where = how.at(path)
    reader = csv.DictReader(io.StringIO(text_of(path, how.encoding, where), newline=""), strict=True)
    csv.field_size_limit(files.MAX_BYTES)
    others: Counter[str] = Counter()
    line, n_documents = 1, 0
    try:
        if missing := {"tag", "question", "answer"} - set(reader.fieldnames or ()):
            columns = Place(", ".join(sorted(missing)))
            raise Fault(Place(f"{where}, line 1"), "no column {}", "name an NER file of JMED-LLM", columns)
        for row in reader:
            first, line = line + 1, reader.line_num
            if row["tag"] != "d":
                others[str(row["tag"])] += 1
                continue
            n_documents += 1
            with read.noting():
                id, place = f"{path.stem}-{n_documents:03d}", Place(f"{where}, line {first}")
                _read_row(id, row["question"], row["answer"], place, how, read)
    except csv.Error:
        raise Fault(Place(f"{where}, line {reader.line_num}"), "not CSV", _AGAIN) from None
    if not n_documents:
        counts = ", ".join(f"{tag} ({n})" for tag, n in others.most_common(5)) or "none"
        raise Fault(where, 'no row has the tag "d", which marks disease names; the tags here: {}', _AGAIN, counts)
    for tag, n in others.items():
        read.skip('rows with the tag "{}"', tag, n)


def _read_row(id: str, question: str | None, answer: str | None, where: Place, how: Reading, read: Read) -> None:
    start, end = (question or "").find("「"), (question or "").rfind("」")
    if not 0 <= start < end:
        raise Fault(where, "no document between 「 and 」 in the column question", _AGAIN)
    text = question[start + 1 : end]
    try:
        strings = ast.literal_eval(answer or "")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        strings = None
    if not isinstance(strings, list) or not all(isinstance(s, str) and s.strip() for s in strings):
        raise Fault(where, "the column answer is no list of strings", _AGAIN)
    for number, string in enumerate(strings, 1):
        if string not in text:
            raise Fault(where, "string {} of the answer does not occur in its document", _AGAIN, number)
    read.add(id, text, (Located(e, where) for e in project_strings(text, strings)), how, where)


def project_strings(text: str, strings: Iterable[str]) -> list[Entity]:
    """Mark every occurrence of every string as positive, longest string first, skipping what is already marked."""
    taken = bytearray(len(text))
    entities = []
    for string in sorted(set(strings), key=lambda s: (-len(s), s)):
        start = text.find(string)
        while start >= 0:
            end = start + len(string)
            if any(taken[start:end]):
                start = text.find(string, start + 1)
            else:
                taken[start:end] = b"\x01" * len(string)
                entities.append(Entity(start, end, certainty="positive"))
                start = text.find(string, end)
    return sorted(entities)
