"""Who wrote a note, and on which case: from a table beside the notes, or from the names of the files."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

from nbutils.corpus import Corpus, Document
from nbutils.corpus.formats.reading import Read
from nbutils.files import Fault, Place, text_of, written_whole

TABLE = "notes.csv"  # the name under which writers leave it beside the notes


def with_table(documents: list[Document], path: Path, where: Place, encoding: str | None, read: Read) -> list[Document]:
    """Documents with what a CSV says about each: a column `id` and any others, such as case, physician, title.

    An empty cell says nothing. `where` is how sentences name the table.

    Faults: a note without a row, a row without a note, or a cell that contradicts the note's own meta.
    """
    if not path.exists():
        raise Fault(where, "no such table", "put it beside the notes or correct `meta` in the study file")
    rows = _rows(path, where, encoding, read)
    ids = {d.id for d in documents}
    for id, (place, _) in rows.items():
        if id not in ids:
            read.fault(place, 'there is no note "{}"', "the column id holds file names without their ending", id)
    told = []
    for document in documents:
        with read.noting():
            if document.id not in rows:
                raise Fault(where, 'there is no row for the note "{}"', "every note needs one", document.id)
            place, facts = rows[document.id]
            told.append(_with(document, facts, place))
    return told


def _rows(path: Path, where: Place, encoding: str | None, read: Read) -> dict[str, tuple[Place, dict[str, str]]]:
    """Place and filled cells of every row, by id."""
    reader = csv.DictReader(io.StringIO(text_of(path, encoding, where), newline=""), strict=True)
    rows: dict[str, tuple[Place, dict[str, str]]] = {}
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        if "id" not in columns or len(set(columns)) < len(columns) or "" in columns:
            what = "the first line must name the columns, each once, and one of them `id`"
            raise Fault(Place(f"{where}, line 1"), what, "add that line or correct it")
        reader.fieldnames = columns
        for row in reader:
            place = Place(f"{where}, line {reader.line_num}")
            with read.noting():
                if None in row or None in row.values():
                    raise Fault(place, "{} cells are needed, as in the first line", "add or remove some", len(columns))
                if not row["id"]:
                    raise Fault(place, "the column id is empty", "name the note")
                if row["id"] in rows:
                    raise Fault(place, 'a second row for the note "{}"', "keep one", row["id"])
                rows[row["id"]] = place, {k: v for k, v in row.items() if k != "id" and v}
    except csv.Error:
        raise Fault(Place(f"{where}, line {reader.line_num}"), "not CSV", "save it again as CSV") from None
    return rows


def with_names(documents: list[Document], template: str, where: Place, read: Read) -> list[Document]:
    """Documents with what their ids say, by a template such as `{physician}_{case}` or `{physician}/{case}`.

    A field stands for any characters but those that divide fields in the template, so that there is one reading only.

    Faults: a template that cannot be read, or an id that does not fit it.
    """
    pattern = _pattern(template, where)
    told = []
    for document in documents:
        with read.noting():
            match = pattern.fullmatch(document.id)
            if not match:
                fix = "rename it, correct `names` in the study file, or use a table (`meta: notes.csv`) instead"
                raise Fault(where, 'the note "{}" is not named like "{}"', fix, document.id, Place(template))
            told.append(_with(document, match.groupdict(), where))
    return told


def _pattern(template: str, where: Place) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    literals, fields = parts[::2], parts[1::2]
    sound = fields and len(set(fields)) == len(fields) and all(f.isidentifier() for f in fields)
    if not sound or not all(literals[1:-1]) or any(c in "{}" for c in "".join(literals)):
        fix = 'write fields in braces with something between them, such as "{physician}_{case}"'
        raise Fault(where, 'the template "{}" cannot be read', fix, Place(template))
    divider = re.escape("".join(sorted({"/", *"".join(literals[1:-1])})))
    out = re.escape(literals[0])
    for name, literal in zip(fields, literals[1:], strict=True):
        out += f"(?P<{name}>[^{divider}]+)" + re.escape(literal)
    return re.compile(out)


def _with(document: Document, facts: dict[str, str], place: Place) -> Document:
    for key, value in facts.items():
        if document.meta.get(key, value) != value:
            what = 'another {} for the note "{}" than its own file names ("{}")'
            raise Fault(place, what, "keep one", Place(key), document.id, document.meta[key])
    return replace(document, meta={**document.meta, **facts})


def write_table(corpus: Corpus, folder: Path) -> None:
    """`notes.csv` in a folder of notes, if anything is to be said about any of them."""
    keys = list(dict.fromkeys(key for document in corpus for key in document.meta))
    if keys:
        with written_whole(folder / TABLE, private=corpus.private) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", *keys])
            writer.writerows([document.id, *(document.meta.get(key, "") for key in keys)] for document in corpus)
