"""Label Studio's JSON export of text labelling: tasks with annotations with results (not JSON-MIN).

Labels on spans of `data.text` and choices made for a span are read. Other strings under `data` are the note's meta.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbutils.corpus import CERTAINTIES, Corpus, Document, Entity
from nbutils.corpus.formats.offsets import same_words
from nbutils.corpus.formats.reading import Located, Read, Reading, attributes_of, further_values, in_code_points, listed
from nbutils.files import DataError, Fault, Place, json_of, text_of, write_whole
from nbutils.privacy import shown_id

_AGAIN = "export the project again as JSON (not JSON-MIN, not CSV)"
_SPANS = ("labels", "hypertextlabels", "paragraphlabels")  # types of results that label a span


def read_labelstudio(path: Path, how: Reading, read: Read) -> None:
    """One document per task, named by `data.id` if that is a string, else by the task's own number.

    A skipped annotation (`was_cancelled`) is none. Choices per region become attributes of the entity; one named
    `certainty` with a value that MedTxt knows becomes its certainty. Spans of <HyperText> are read where the export
    quotes the text at their offsets, so that no markup can have shifted them.

    Faults: another export, a task that nobody or more than one person annotated, spans that are not sound or do not
    fit the text that the export quotes, offsets that may mean two things.
    """
    where = how.at(path)
    tasks = json_of(text_of(path, how.encoding, where), where, _AGAIN, lines=True)
    if not isinstance(tasks, list):
        raise Fault(where, "a list of tasks is needed", _AGAIN)
    for number, task in enumerate(tasks, 1):
        with read.noting():
            _read_task(task, number, Place(f"{where}, task {number}"), how, read)


def _read_task(task: Any, number: int, where: Place, how: Reading, read: Read) -> None:
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        raise Fault(where, 'there is no string "text" under "data"', _AGAIN)
    text = data["text"]
    result = listed(_annotation(task, where).get("result"), where, "result", _AGAIN)
    choices = _choices(result, read)
    regions: list[Located] = []
    for k, row in enumerate(result, 1):
        if row.get("type") in _SPANS:
            with read.noting():
                said = choices.get(str(row.get("id")), [])
                regions.append(_region(row, said, text, Place(f"{where}, result {k}")))
    marked = in_code_points(regions, text, how, where)
    own = data["id"] if isinstance(data.get("id"), str) else task.get("id", number)
    if isinstance(own, bool) or not isinstance(own, int | str):
        raise Fault(where, '"id" must be a number or a string', _AGAIN)
    read.add(str(own), text, marked, how, where, meta=_meta(data, read))


def _annotation(task: dict[str, Any], where: Place) -> dict[str, Any]:
    """The one finished annotation of a task."""
    if "completions" in task and "annotations" not in task:
        what = 'the annotations are called "completions", as in Annotation Lab and in Label Studio before 1.0'
        fix = 'export the project from Label Studio 1.0 or later, or rename "completions" to "annotations" in the file'
        raise Fault(where, what, fix)
    given = listed(task.get("annotations"), where, "annotations", _AGAIN)
    done = [a for a in given if not a.get("was_cancelled")]
    if len(done) == 1:
        return done[0]
    if not done and task.get("drafts"):
        fix = "submit it in Label Studio and export again, or export without such tasks"
        raise Fault(where, "no finished annotation, only a draft", fix)
    fix = "export one annotator's, and no task that nobody annotated"
    raise Fault(where, "{} finished annotations where one is needed", fix, len(done))


def _choices(result: list[dict[str, Any]], read: Read) -> dict[str, list[tuple[str, str]]]:
    """The choices made for a labelled span, by its id; every result that is neither is counted."""
    choices: dict[str, list[tuple[str, str]]] = {}
    spans = {str(row.get("id")) for row in result if row.get("type") in ("labels", "hypertextlabels")}
    for row in result:
        value = row.get("value")
        chosen = value.get("choices") if isinstance(value, dict) else None
        region = str(row.get("id"))
        if row.get("type") == "choices" and region in spans and isinstance(chosen, list) and len(chosen) == 1:
            choices.setdefault(region, []).append((str(row.get("from_name")), str(chosen[0])))
        elif row.get("type") not in _SPANS:
            read.skip('results of the type "{}"', str(row.get("type")))
    return choices


def _region(row: dict[str, Any], said: list[tuple[str, str]], text: str, place: Place) -> Located:
    """A labelled span with its offsets as the export has them, and the choices made for it."""
    kind, value = row["type"], row.get("value")
    value = value if isinstance(value, dict) else {}
    start, end, names = value.get("start"), value.get("end"), value.get(kind)
    quoted = value.get("text") if isinstance(value.get("text"), str) else None
    if kind != "labels":
        overall = value.get("globalOffsets")
        if isinstance(overall, dict):
            start, end = overall.get("start"), overall.get("end")
        numbers = type(start) is type(end) is int and 0 <= start < end <= len(text)
        if kind == "paragraphlabels" or quoted is None or not (numbers and same_words(text[start:end], quoted)):
            tag = "Paragraphs" if kind == "paragraphlabels" else "HyperText"
            what = "spans of <{}> are not read, since their offsets count markup"
            raise Fault(place, what, 'annotate with <Text name="text" value="$text"/>', Place(tag))
    named = isinstance(names, list) and len(names) == 1 and isinstance(names[0], str)
    if type(start) is not int or type(end) is not int or not named:
        raise Fault(place, "a span needs start and end as whole numbers and one label", _AGAIN)
    certainty = next((v for k, v in said if k == "certainty" and v in CERTAINTIES), None)
    further = tuple((k, v) for k, v in said if (k, v) != ("certainty", certainty))
    return Located(Entity(start, end, names[0], certainty, further), place, quoted)


def _meta(data: dict[str, Any], read: Read) -> dict[str, str]:
    own = {"text"} | ({"id"} if isinstance(data.get("id"), str) else set())
    return further_values(((k, v) for k, v in data.items() if k not in own), read)


def write_labelstudio(corpus: Corpus, path: Path) -> None:
    """Tasks that Label Studio imports: <Labels name="label" toName="text"> on <Text name="text" value="$text"/>.

    Offsets count code points; certainty and attributes become choices per region.
    """
    tasks = [_task(document, number) for number, document in enumerate(corpus, 1)]
    write_whole(path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", private=corpus.private)


def write_labelstudio_predictions(corpus: Corpus, path: Path, model_version: str) -> None:
    """Tasks as `write_labelstudio` makes them, their entities as predictions that an annotator corrects.

    A region carries its score, a prediction the mean of them, by which Label Studio can sort tasks.
    """
    tasks = []
    for number, document in enumerate(corpus, 1):
        task = _task(document, number)
        result = task.pop("annotations")[0]["result"]
        for row, e in zip([r for r in result if r["type"] == "labels"], sorted(document.entities), strict=True):
            row |= {"score": round(e.score, 4)} if e.score is not None else {}
        scores = [row["score"] for row in result if "score" in row]
        mean = {"score": round(sum(scores) / len(scores), 4)} if scores else {}
        tasks.append(task | {"predictions": [{"model_version": model_version, "result": result} | mean]})
    write_whole(path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", private=corpus.private)


def _task(document: Document, number: int) -> dict[str, Any]:
    result: list[dict[str, Any]] = []
    for k, e in enumerate(sorted(document.entities), 1):
        place = {"start": e.start, "end": e.end, "text": document.surface(e)}
        shared = {"id": f"r{k}", "to_name": "text"}
        result.append(shared | {"from_name": "label", "type": "labels", "value": place | {"labels": [e.label]}})
        for name, value in attributes_of(e):
            result.append(shared | {"from_name": name, "type": "choices", "value": place | {"choices": [value]}})
    data = {"text": document.text, "id": document.id}
    if clash := set(data) & set(document.meta):
        what = f'its meta has a key "{min(clash)}", which the export needs; rename it'
        raise DataError(f'document "{shown_id(document)}": {what}')
    return {"id": number, "data": data | dict(document.meta), "annotations": [{"result": result}]}
