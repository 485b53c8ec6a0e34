"""JSON Lines, our own form: one document per line, any text and every attribute survives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nbutils.corpus import Corpus, Document, Entity, Prediction, place_in, problems
from nbutils.corpus.formats.reading import Located, Read, Reading
from nbutils.files import DataError, Fault, Place, json_of, rows_of, text_of, written_whole
from nbutils.privacy import shown_id

_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_ROW = 'write one object per line, with the strings "id" and "text"'


def read_jsonl(path: Path, how: Reading, read: Read) -> None:
    """One JSON object per line: `id`, `text`, `entities` (start, end, label, certainty, attributes), `meta`."""
    where = how.at(path)
    for number, line in enumerate(rows_of(text_of(path, how.encoding, where)), 1):
        if line.strip():
            with read.noting():
                _read_line(line, Place(f"{where}, line {number}"), how, read)


def _read_line(line: str, where: Place, how: Reading, read: Read) -> None:
    row, meta = _row(line, where)
    rows, marked = row.get("entities", []), []
    if not isinstance(rows, list) or not all(isinstance(given, dict) for given in rows):
        raise Fault(where, '"entities" must be a list of objects', 'each has "start", "end" and "label"')
    for number, given in enumerate(rows, 1):
        place = Place(f"{where}, entity {number}")
        with read.noting():
            try:
                entity = entity_from_json(given)
            except ValueError as error:
                raise Fault(place, str(error), "correct it") from None
            quoted = given.get("text")
            if not isinstance(quoted, str | None):
                raise Fault(place, 'its "text" must be a string', "correct it or leave it out")
            marked.append(Located(entity, place, quoted))
    read.add(row["id"], row["text"], marked, how, where, meta=meta, annotated=bool(rows))


def _row(line: str, where: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The object of a line and its meta, its entities not yet looked at."""
    row = json_of(line, where, _ROW)
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("id", "text")) or not row["id"]:
        raise Fault(where, 'an object with the strings "id" (not empty) and "text" is needed', _ROW)
    if unknown := set(row) - {"id", "text", "entities", "meta"}:
        raise Fault(where, 'unknown key "{}"', 'put further facts about the note under "meta"', min(unknown))
    meta = row.get("meta", {})
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        raise Fault(where, '"meta" must be an object whose values are strings', "put numbers in quotes")
    return row, meta


def jsonl_document(line: str, where: str, *, bare: bool = False) -> Document:
    """The document of one line of JSON Lines, its entities as they are; `bare` passes over them, whatever they are.

    Raises:
        DataError: any other shape; `where` opens the sentence, which quotes nothing.
    """
    row, meta = _row(line, where)
    if bare:
        return Document(row["id"], row["text"], (), meta)
    try:
        entities = entities_from_json(row.get("entities", []))
    except ValueError as error:
        raise Fault(where, str(error), "correct it") from None
    document = Document(row["id"], row["text"], entities, meta)
    if problems(document):
        raise Fault(where, "its entities overlap or do not lie in the text", "correct the offsets")
    return document


def entities_from_json(rows: Any) -> tuple[Entity, ...]:
    """Entities as `entity_to_json` wrote them (their surface may stand beside as `text`).

    Raises:
        ValueError: any other shape, in words that a person understands and that quote nothing.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError('"entities" must be a list of objects')
    return tuple(entity_from_json(row) for row in rows)


def entity_from_json(row: dict[str, Any]) -> Entity:
    if set(row) - {"start", "end", "label", "certainty", "attributes", "score", "text"}:
        raise ValueError('an entity has an unknown key; put further facts under "attributes"')
    if type(row.get("start")) is not int or type(row.get("end")) is not int:
        raise ValueError('every entity needs "start" and "end" as whole numbers')
    label, certainty, attributes = row.get("label", "d"), row.get("certainty"), row.get("attributes", {})
    if not isinstance(label, str) or not isinstance(certainty, str | None):
        raise ValueError('"label" and "certainty" of an entity must be strings')
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        raise ValueError('"attributes" of an entity must be an object whose values are strings')
    if type(row.get("score")) not in (int, float, type(None)):
        raise ValueError('"score" of an entity must be a number')
    return Entity(row["start"], row["end"], label, certainty, tuple(attributes.items()), row.get("score"))


def entity_to_json(entity: Entity) -> dict[str, Any]:
    row: dict[str, Any] = {"start": entity.start, "end": entity.end, "label": entity.label}
    if entity.certainty is not None:
        row["certainty"] = entity.certainty
    if entity.attributes:
        row["attributes"] = dict(entity.attributes)
    if entity.score is not None:
        row["score"] = round(entity.score, 6)
    return row


def prediction_from_json(line: str | bytes) -> tuple[Prediction, str]:
    """A line of predictions (`id`, `text_hash`, `entities`; perhaps `raw`, `repairs`), and its hash of the text.

    Raises:
        ValueError: any other shape, in words that quote nothing.
    """
    try:
        row = json.loads(line)
        prediction = Prediction(row["id"], entities_from_json(row["entities"]), row.get("raw"), row.get("repairs", {}))
        expected = row["text_hash"]
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, RecursionError):
        raise ValueError('not a prediction, which is an object with "id", "text_hash" and "entities"') from None
    if not isinstance(prediction.document_id, str) or not isinstance(expected, str):
        raise ValueError('"id" and "text_hash" of a prediction must be strings')
    return prediction, expected


def write_jsonl(corpus: Corpus, path: str | Path) -> None:
    """Write one JSON object per line; any text survives, lone surrogates too.

    Raises:
        DataError: two halves of a surrogate pair side by side, which every JSON reader joins into one character; two
            attributes of one name on an entity. Nothing is written then.
    """
    with written_whole(path, private=corpus.private) as file:
        file.writelines(map(jsonl_line, corpus))


def jsonl_line(document: Document) -> str:
    """One document as a line of JSON, with its line break.

    Raises:
        DataError: what `write_jsonl` says.
    """
    for e in document.entities:
        if len(dict(e.attributes)) < len(e.attributes):
            what = "has two attributes of one name, which JSON cannot hold; rename or drop one"
            raise DataError(f"{place_in(document, e)} {what}")
    row = {
        "id": document.id,
        "text": document.text,
        "entities": [entity_to_json(e) for e in document.entities],
        "meta": dict(document.meta),
    }
    line = json.dumps(row, ensure_ascii=False)
    if _SURROGATE_HALVES.search(line):
        what = "two halves of a surrogate pair side by side; decode its text as UTF-16 first"
        raise DataError(f"document {shown_id(document)!r}: {what}")
    # Lone surrogates are no UTF-8; \uXXXX escapes carry them.
    return (json.dumps(row) if _SURROGATE.search(line) else line) + "\n"
