"""JSON Lines, our own form: one document a line, any text and every attribute survives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nbutils.corpus import Corpus, Document, Entity, problems
from nbutils.corpus.formats.reading import Read, Reading
from nbutils.files import DataError, text_of, written_whole

_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def read_jsonl(path: Path, how: Reading) -> Read:
    """One JSON object a line: `id`, `text`, `entities` (start, end, label, certainty, attributes), `meta`."""
    documents: list[Document] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(text_of(path, how.encoding).split("\n"), 1):
        if line.strip():
            document = jsonl_document(line, f"{path}, line {number}")
            if document.id in line_of:
                raise DataError(
                    f'{path}, line {number}: the id "{document.id}" stands already in line {line_of[document.id]}; '
                    "every document needs one of its own"
                )
            line_of[document.id] = number
            documents.append(document)
    return Read(documents)


def jsonl_document(line: str, where: str, *, bare: bool = False) -> Document:
    """The document of one line of JSON Lines; `bare` passes over its entities, whatever they are.

    Raises:
        DataError: any other shape; `where` opens the sentence.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, too
        column = getattr(error, "colno", 1)
        raise DataError(f"{where}, column {column}: not JSON; write one object a line") from None
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("id", "text")) or not row["id"]:
        raise DataError(f'{where}: an object with the strings "id" (not empty) and "text" is needed')
    if unknown := set(row) - {"id", "text", "entities", "meta"}:
        raise DataError(f'{where}: unknown key "{min(unknown)}"; put further facts about the note under "meta"')
    meta = row.get("meta", {})
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        raise DataError(f'{where}: "meta" must be an object whose values are strings')
    if bare:
        return Document(row["id"], row["text"], (), meta)
    try:
        entities = entities_from_json(row.get("entities", []))
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    document = Document(row["id"], row["text"], entities, meta)
    if found := problems(document):
        raise DataError(f"{where}: {found[0]}; mend the offsets (0-based code points, end not included)")
    for entity, given in zip(entities, row.get("entities", []), strict=True):
        if given.get("text", document.surface(entity)) != document.surface(entity):
            raise DataError(
                f'{where}: the text at entity {entity.start}–{entity.end} is not what its own "text" says; '
                "mend the offsets (0-based code points, end not included)"
            )
    return document


def entities_from_json(rows: Any) -> tuple[Entity, ...]:
    """Entities as `entity_to_json` wrote them (their surface may stand beside as `text`).

    Raises:
        ValueError: any other shape, in words that a person understands.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError('"entities" must be a list of objects')
    return tuple(entity_from_json(row) for row in rows)


def entity_from_json(row: dict[str, Any]) -> Entity:
    if unknown := set(row) - {"start", "end", "label", "certainty", "attributes", "score", "text"}:
        raise ValueError(f'an entity has the unknown key "{min(unknown)}"; put further facts under "attributes"')
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


def write_jsonl(corpus: Corpus, path: str | Path) -> None:
    """Write one JSON object a line; any text survives, lone surrogates too.

    Raises:
        DataError: two halves of a surrogate pair side by side, which every JSON reader joins into one character; two
            attributes of one name on an entity. Nothing is written then.
    """
    with written_whole(path) as file:
        file.writelines(map(jsonl_line, corpus))


def jsonl_line(document: Document) -> str:
    """One document as a line of JSON, with its line break.

    Raises:
        DataError: what `write_jsonl` says.
    """
    for e in document.entities:
        if len(dict(e.attributes)) < len(e.attributes):
            raise DataError(
                f'document "{document.id}": entity {e.start}–{e.end} has two attributes of one name, which JSON '
                "cannot hold; rename or drop one"
            )
    row = {
        "id": document.id,
        "text": document.text,
        "entities": [entity_to_json(e) for e in document.entities],
        "meta": dict(document.meta),
    }
    line = json.dumps(row, ensure_ascii=False)
    if _SURROGATE_HALVES.search(line):
        raise DataError(
            f"document {document.id!r}: two halves of a surrogate pair side by side; decode its text as UTF-16 first"
        )
    # Lone surrogates are no UTF-8; \uXXXX escapes carry them.
    return (json.dumps(row) if _SURROGATE.search(line) else line) + "\n"
