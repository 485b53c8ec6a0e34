"""Label Studio's JSON export of text labelling: tasks with annotations with results (not JSON-MIN).

Knows labels on spans of `data.text` and choices made for a span. Other strings under `data` are the note's meta.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats.medtxt import CERTAINTIES
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


def read_labelstudio(path: Path, how: Reading) -> Read:
    """One document a task, named by `data.id` if that is a string, else by the task's own number.

    A skipped annotation (`was_cancelled`) is none. Choices per region become attributes of the entity; one named
    `certainty` with a value that MedTxt knows becomes its certainty.

    Raises:
        DataError: another export, a task that nobody or more than one person annotated, spans that are not sound or
            do not fit the text that the export quotes, offsets that may mean two things.
    """
    try:
        tasks = json.loads(text_of(path, how.encoding))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        place = f", line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(f"{path}{place}: not JSON; export the project anew as JSON") from None
    if not isinstance(tasks, list):
        raise DataError(f"{path}: a list of tasks is needed; export the project as JSON")
    read = Read([])
    seen: set[str] = set()
    for number, task in enumerate(tasks, 1):
        document = _document(task, number, path, how, read)
        if document.id in seen:
            raise DataError(f'{path}, task {number}: the id "{document.id}" stands twice; give every task its own')
        seen.add(document.id)
        read.documents.append(document)
    return read


def _document(task: Any, number: int, path: Path, how: Reading, read: Read) -> Document:
    where = f"{path}, task {number}"
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        raise DataError(f'{where}: there is no string "text" under "data"; export as JSON (not JSON-MIN, not CSV)')
    text = data["text"]
    done = [a for a in task.get("annotations") or [] if isinstance(a, dict) and not a.get("was_cancelled")]
    if len(done) != 1:
        raise DataError(
            f"{where}: {len(done)} finished annotations where one is needed; export one annotator's, and no task "
            "that nobody annotated"
        )
    regions, choices = _regions(done[0].get("result"), where, read)
    check_offsets_declared(text, [end for _, end, *_ in regions], how, where)
    to_code_points, found = offset_reader(text, how.offsets), []
    for start, end, label, quoted, region, place in regions:
        named = label_of(label, how, read)
        if named is None:
            continue
        start, end = to_code_points(start), to_code_points(end)
        if quoted is not None and 0 <= start < end <= len(text) and _bare(text[start:end]) != _bare(quoted):
            raise DataError(
                f"{place}: the export quotes another text than stands at {start}–{end}; check what its offsets count "
                "(`offsets:` in the study file), and that the task's text was not changed"
            )
        certainty = next((v for k, v in choices.get(region, []) if k == "certainty" and v in CERTAINTIES), None)
        further = tuple((k, v) for k, v in choices.get(region, []) if (k, v) != ("certainty", certainty))
        found.append(Located(Entity(start, end, named, certainty, further), place))
    id = data["id"] if isinstance(data.get("id"), str) else str(task.get("id", number))
    return Document(id, text, settled(found, text, how, read), _meta(data, read))


def _regions(
    result: Any, where: str, read: Read
) -> tuple[list[tuple[int, int, str, str | None, str, str]], dict[str, list[tuple[str, str]]]]:
    """(start, end, type, quoted text, region, place) of every labelled span, and the choices made for a region."""
    if not isinstance(result, list) or not all(isinstance(r, dict) for r in result):
        raise DataError(f'{where}: "result" must be a list of objects; export the project anew as JSON')
    regions: list[tuple[int, int, str, str | None, str, str]] = []
    choices: dict[str, list[tuple[str, str]]] = {}
    spans = {str(r.get("id")) for r in result if r.get("type") == "labels"}
    for number, row in enumerate(result, 1):
        place, region, value = f"{where}, result {number}", str(row.get("id")), row.get("value")
        value = value if isinstance(value, dict) else {}
        if row.get("type") == "labels":
            start, end, names = value.get("start"), value.get("end"), value.get("labels")
            if type(start) is not int or type(end) is not int or not isinstance(names, list) or len(names) != 1:
                raise DataError(f"{place}: a span needs start and end as whole numbers and one label")
            quoted = value.get("text") if isinstance(value.get("text"), str) else None
            regions.append((start, end, str(names[0]), quoted, region, place))
        elif row.get("type") == "choices" and region in spans and len(value.get("choices") or []) == 1:
            choices.setdefault(region, []).append((str(row.get("from_name")), str(value["choices"][0])))
        else:
            read.left_out[f'results of the type "{row.get("type")}"'] += 1
    return regions, choices


def _bare(text: str) -> str:
    """A text without white space: the export writes a line break as two characters, a backslash and an n."""
    return "".join(text.replace("\\n", "\n").split())


def _meta(data: dict[str, Any], read: Read) -> dict[str, str]:
    own = {"text"} | ({"id"} if isinstance(data.get("id"), str) else set())
    return further_values(((k, v) for k, v in data.items() if k not in own), read)


def write_labelstudio(corpus: Corpus, path: Path) -> None:
    """Tasks that Label Studio imports: <Labels name="label" toName="text"> on <Text name="text" value="$text"/>.

    Offsets count code points; certainty and attributes become choices per region.
    """
    with written_whole(path) as file:
        tasks = [_task(document, number) for number, document in enumerate(corpus, 1)]
        file.write(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")


def _task(document: Document, number: int) -> dict[str, Any]:
    result: list[dict[str, Any]] = []
    for k, e in enumerate(sorted(document.entities), 1):
        place = {"start": e.start, "end": e.end, "text": document.surface(e)}
        shared = {"id": f"r{k}", "to_name": "text"}
        result.append(shared | {"from_name": "label", "type": "labels", "value": place | {"labels": [e.label]}})
        certainty = [("certainty", e.certainty)] if e.certainty is not None else []
        for name, value in [*certainty, *e.attributes]:
            result.append(shared | {"from_name": name, "type": "choices", "value": place | {"choices": [value]}})
    data = {"text": document.text, "id": document.id}
    if clash := set(data) & set(document.meta):
        raise DataError(
            f'document "{document.id}": its meta has a key "{min(clash)}", which the export needs; rename it'
        )
    return {"id": number, "data": data | dict(document.meta), "annotations": [{"result": result}]}
