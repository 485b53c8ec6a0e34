"""doccano's JSONL export of sequence labelling: older (`label: [[start, end, type]]`) and newer (`entities`).

Strings beside the text (a case, a physician that were imported with it) are the note's meta.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbutils.corpus import Corpus, Entity
from nbutils.corpus.formats.reading import Located, Read, Reading, further_values, in_code_points, refuse_attributes
from nbutils.files import Fault, Place, json_of, rows_of, text_of, written_whole

OWN_KEYS = frozenset(["id", "text", "data", "label", "labels", "entities", "relations", "Comments", "comments", "cats"])
_AGAIN = "export JSONL from doccano again"


def read_doccano(path: Path, how: Reading, read: Read) -> None:
    """One document per line, named by doccano's `id`, else by the file and its line.

    Faults: a line of another shape; spans that are not sound; offsets that may mean two things.
    """
    where = how.at(path)
    for number, line in enumerate(rows_of(text_of(path, how.encoding, where)), 1):
        if line.strip():
            with read.noting():
                _read_line(line, f"{path.stem}-{number:03d}", Place(f"{where}, line {number}"), how, read)


def _read_line(line: str, default_id: str, where: Place, how: Reading, read: Read) -> None:
    row = json_of(line, where, _AGAIN)
    text = row.get("text", row.get("data")) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise Fault(where, 'an object with the string "text" is needed', _AGAIN)
    id = row.get("id", default_id)
    if isinstance(id, bool) or not isinstance(id, int | str):
        raise Fault(where, '"id" must be a number or a string', _AGAIN)
    shapes = [key for key in ("entities", "label", "labels") if key in row]
    if len(shapes) != 1:
        raise Fault(where, 'exactly one of "entities" and "label" is needed', _AGAIN)
    if not isinstance(row[shapes[0]], list):
        raise Fault(where, "{} must be a list of entities", _AGAIN, Place(shapes[0]))
    given: list[Located] = []
    for k, span in enumerate(row[shapes[0]], 1):
        with read.noting():
            given.append(_span(span, Place(f"{where}, {shapes[0]} {k}")))
    marked = in_code_points(given, text, how, where)
    for key in ("relations", "Comments", "comments"):
        read.skip(key.lower(), n=len(row[key]) if isinstance(row.get(key), list) else 0)
    read.add(str(id), text, marked, how, where, meta=_meta(row, read), annotated=bool(row[shapes[0]]))


def _span(span: Any, place: Place) -> Located:
    if isinstance(span, dict):
        span = [span.get("start_offset"), span.get("end_offset"), span.get("label")]
    numbers = isinstance(span, list) and len(span) == 3 and type(span[0]) is type(span[1]) is int
    if not (numbers and isinstance(span[2], str) and span[2]):
        raise Fault(place, "start, end and type of an entity are needed (two whole numbers and a name)", _AGAIN)
    return Located(Entity(*span), place)


def _meta(row: dict[str, Any], read: Read) -> dict[str, str]:
    """Further strings of the row, and of the `meta` object that older versions write."""
    nested = row.get("meta")
    values = [*row.items(), *(nested.items() if isinstance(nested, dict) else [])]
    return further_values(((k, v) for k, v in values if k not in OWN_KEYS and v is not nested), read)


def write_doccano(corpus: Corpus, path: Path) -> None:
    """JSONL that doccano imports (column `text`, label `label`); offsets count code points."""
    with written_whole(path, private=corpus.private) as file:
        for document in corpus:
            for e in document.entities:
                refuse_attributes(document, e, "doccano")
            row = {"id": document.id, "text": document.text, "label": [list(e.key) for e in sorted(document.entities)]}
            file.write(json.dumps(row | dict(document.meta), ensure_ascii=False) + "\n")
