"""Who wrote a note, and on which case: from a table beside the notes, or from the names of the files.

Knows ids and columns; the text of a note plays no part.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nbutils.corpus import Corpus, Document
from nbutils.files import DataError, text_of, written_whole

TABLE = "notes.csv"  # the name under which writers leave it beside the notes


def with_table(documents: Iterable[Document], path: Path, encoding: str | None) -> list[Document]:
    """Documents with what a CSV says about each: a column `id` and any others, such as case, physician, title.

    An empty cell says nothing.

    Raises:
        DataError: a note without a row, a row without a note, or a cell that contradicts the note's own meta.
    """
    if not path.exists():
        raise DataError(f"{path}: no such table; put it beside the notes or correct `meta` in the study file")
    rows = _rows(path, encoding)
    documents = list(documents)
    for id, (place, _) in rows.items():
        if id not in {d.id for d in documents}:
            raise DataError(f'{place}: there is no note "{id}"; the column id holds file names without their ending')
    told = []
    for document in documents:
        if document.id not in rows:
            raise DataError(f'{path}: there is no row for the note "{document.id}"; every note needs one')
        place, facts = rows[document.id]
        told.append(_with(document, facts, place))
    return told


def _rows(path: Path, encoding: str | None) -> dict[str, tuple[str, dict[str, str]]]:
    """Place and filled cells of every row, by id."""
    reader = csv.DictReader(io.StringIO(text_of(path, encoding), newline=""), strict=True)
    rows: dict[str, tuple[str, dict[str, str]]] = {}
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        if "id" not in columns or len(set(columns)) < len(columns) or "" in columns:
            raise DataError(f"{path}, line 1: the first line must name the columns, each once, and one of them `id`")
        reader.fieldnames = columns
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{place}: {len(columns)} cells are needed, as in the first line")
            if not row["id"]:
                raise DataError(f"{place}: the column id is empty; name the note")
            if row["id"] in rows:
                raise DataError(f'{place}: a second row for the note "{row["id"]}"; keep one')
            rows[row["id"]] = place, {k: v for k, v in row.items() if k != "id" and v}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}); save it anew as CSV") from None
    return rows


def with_names(documents: Iterable[Document], template: str, where: str | Path) -> list[Document]:
    """Documents with what their ids say, by a template such as `{physician}_{case}` or `{physician}/{case}`.

    A field stands for any characters but those that divide fields in the template, so that there is one reading only.

    Raises:
        DataError: a template that cannot be read, or an id that does not fit it.
    """
    pattern = _pattern(template, where)
    told = []
    for document in documents:
        match = pattern.fullmatch(document.id)
        if not match:
            raise DataError(
                f'{where}: the note "{document.id}" is not named like "{template}"; rename it, correct `names` in the '
                "study file, or use a table (`meta: notes.csv`) instead"
            )
        told.append(_with(document, match.groupdict(), f'{where}, note "{document.id}"'))
    return told


def _pattern(template: str, where: str | Path) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    literals, fields = parts[::2], parts[1::2]
    sound = fields and len(set(fields)) == len(fields) and all(literals[1:-1])
    if (
        not sound
        or any(c in "{}" for literal in literals for c in literal)
        or not all(f.isidentifier() for f in fields)
    ):
        raise DataError(
            f'{where}: the template "{template}" cannot be read; write fields in braces with something between them, '
            'such as "{physician}_{case}"'
        )
    divider = re.escape("".join(sorted({"/", *"".join(literals[1:-1])})))
    out = re.escape(literals[0])
    for name, literal in zip(fields, literals[1:], strict=True):
        out += f"(?P<{name}>[^{divider}]+)" + re.escape(literal)
    return re.compile(out)


def _with(document: Document, facts: dict[str, str], place: str) -> Document:
    for key, value in facts.items():
        if document.meta.get(key, value) != value:
            raise DataError(
                f'{place}: another {key} than the note\'s own file names ("{document.meta[key]}"); keep one'
            )
    return replace(document, meta={**document.meta, **facts})


def write_table(corpus: Corpus, folder: Path) -> None:
    """`notes.csv` in a folder of notes, if anything is to be said about any of them."""
    keys = list(dict.fromkeys(key for document in corpus for key in document.meta))
    if keys:
        with written_whole(folder / TABLE) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", *keys])
            writer.writerows([document.id, *(document.meta.get(key, "") for key in keys)] for document in corpus)
