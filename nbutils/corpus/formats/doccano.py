"""doccano's JSONL export of sequence labelling: older (`label: [[start, end, type]]`) and newer (`entities`).

Knows the two shapes. Strings beside the text (a case, a physician that were imported with it) are the note's meta.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats.reading import (
    Located,
    Read,
    Reading,
    check_offsets_declared,
    further_values,
    label_of,
    offset_reader,
    settled,
)
from nbutils.files import DataError, text_of, written_whole

OWN_KEYS = frozenset(["id", "text", "data", "label", "labels", "entities", "relations", "Comments", "comments", "cats"])


def read_doccano(path: Path, how: Reading) -> Read:
    """One document a line, named by doccano's `id`, else by the file and its line.

    Raises:
        DataError: a line of another shape; spans that are not sound; offsets that may mean two things.
    """
    read, line_of = Read([]), {}
    for number, line in enumerate(text_of(path, how.encoding).split("\n"), 1):
        if line.strip():
            document = _document(line, f"{path.stem}-{number:03d}", f"{path}, line {number}", how, read)
            if document.id in line_of:
                raise DataError(
                    f'{path}, line {number}: the id "{document.id}" stands already in line {line_of[document.id]}; '
                    "export one annotator's file only, or give every document an id of its own"
                )
            line_of[document.id] = number
            read.documents.append(document)
    return read


def _document(line: str, default_id: str, where: str, how: Reading, read: Read) -> Document:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}, column {getattr(error, 'colno', 1)}: not JSON; export JSONL from doccano") from None
    text = row.get("text", row.get("data")) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise DataError(f'{where}: an object with the string "text" is needed; export JSONL from doccano')
    shapes = [key for key in ("entities", "label", "labels") if key in row]
    if len(shapes) != 1:
        raise DataError(f'{where}: exactly one of "entities" and "label" is needed; export it anew from doccano')
    given = [_span(span, f"{where}, {shapes[0]} {k}") for k, span in enumerate(_list(row[shapes[0]], where), 1)]
    check_offsets_declared(text, [end for _, end, _, _ in given], how, where)
    to_code_points, found = offset_reader(text, how.offsets), []
    for start, end, label, place in given:
        named = label_of(label, how, read)
        if named is not None:
            found.append(Located(Entity(to_code_points(start), to_code_points(end), named), place))
    for key in ("relations", "Comments", "comments"):
        read.left_out[key.lower()] += len(row.get(key) or [])
    return Document(str(row.get("id", default_id)), text, settled(found, text, how, read), _meta(row, read))


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: a list of entities is needed; export it anew from doccano")
    return value


def _span(span: Any, place: str) -> tuple[int, int, str, str]:
    if isinstance(span, dict):
        span = [span.get("start_offset"), span.get("end_offset"), span.get("label")]
    if not (isinstance(span, list) and len(span) == 3 and type(span[0]) is type(span[1]) is int and _is_name(span[2])):
        raise DataError(f"{place}: start, end and type of an entity are needed (two whole numbers and a name)")
    return span[0], span[1], span[2], place


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _meta(row: dict[str, Any], read: Read) -> dict[str, str]:
    """Further strings of the row, and of the `meta` object that older versions write."""
    nested = row.get("meta")
    values = [*row.items(), *(nested.items() if isinstance(nested, dict) else [])]
    return further_values(((k, v) for k, v in values if k not in OWN_KEYS and v is not nested), read)


def write_doccano(corpus: Corpus, path: Path) -> None:
    """JSONL that doccano imports (column `text`, label `label`); offsets count code points."""
    with written_whole(path) as file:
        for document in corpus:
            for e in document.entities:
                if e.certainty is not None or e.attributes:
                    raise DataError(
                        f'document "{document.id}": entity {e.start}–{e.end} has a certainty or attributes, which '
                        "doccano cannot hold; write brat, or leave them out first with corpus.spans_only"
                    )
            row = {"id": document.id, "text": document.text, "label": [list(e.key) for e in sorted(document.entities)]}
            file.write(json.dumps(row | dict(document.meta), ensure_ascii=False) + "\n")
