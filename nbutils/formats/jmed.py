"""JMED-LLM's CSV files: documents with gold *strings*, which are projected onto the text as silver spans."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

from nbutils.corpus import Document, Entity
from nbutils.formats import files
from nbutils.formats.files import DataError, text_of
from nbutils.formats.reading import Read, Reading


def read_jmed(path: Path, how: Reading) -> Read:
    """Case reports or nursing records of a JMED-LLM CSV file (its rows with tag `d`), with *silver* spans.

    The file gives strings without offsets. Each string is marked at every place where it occurs, the longest string
    first, and no place is marked twice; so a string that is an entity here and not there is marked in both places.
    Documents are named after the file and the row's number among the `d` rows (`CRNER-001`).
    """
    text = text_of(path, how.encoding)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    read = Read(documents := [])
    csv.field_size_limit(files.MAX_BYTES)
    line = 1
    try:
        if missing := {"tag", "question", "answer"} - set(reader.fieldnames or ()):
            raise DataError(f"{path}, line 1: no column {', '.join(sorted(missing))}; this is no NER file of JMED-LLM")
        for row in reader:
            first, line = line + 1, reader.line_num
            if row["tag"] == "d":
                id = f"{path.stem}-{len(documents) + 1:03d}"
                documents.append(_jmed_document(id, row["question"], row["answer"], f"{path}, line {first}"))
            else:
                read.left_out[f'rows with the tag "{row["tag"]}"'] += 1
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}); fetch the file anew") from None
    return read


def _jmed_document(id: str, question: str | None, answer: str | None, where: str) -> Document:
    start, end = (question or "").find("「"), (question or "").rfind("」")
    if not 0 <= start < end:
        raise DataError(f"{where}: no document between 「 and 」 in the column question; fetch the file anew")
    text = question[start + 1 : end]
    try:
        strings = ast.literal_eval(answer or "")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        strings = None
    if not isinstance(strings, list) or not all(isinstance(s, str) and s for s in strings):
        raise DataError(f"{where}: the column answer is no list of strings; fetch the file anew")
    for number, string in enumerate(strings, 1):
        if string not in text:
            raise DataError(
                f"{where}: string {number} of the answer does not occur in its document; fetch the file anew"
            )
    return Document(id, text, tuple(project_strings(text, strings)))


def project_strings(text: str, strings: list[str], label: str = "d") -> list[Entity]:
    """Mark every occurrence of every string, longest string first, skipping what is already marked.

    JMED-LLM asks for diseases that the patient has, so every entity is positive.
    """
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
                entities.append(Entity(start, end, label, "positive"))
                start = text.find(string, end)
    return sorted(entities)
