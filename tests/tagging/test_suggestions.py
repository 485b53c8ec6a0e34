"""Suggestions go into an annotation tool and, all accepted, come back as the same entities."""

import json

import pytest

from nbutils.corpus import Document, Entity
from nbutils.corpus.formats import read_corpus
from nbutils.files import DataError
from nbutils.tagging.suggestions import TOOLS, write_suggestions

NOTES = (
    Document("a/1", "発熱あり、咳嗽なし。\n", (Entity(0, 2, score=0.91), Entity(5, 7, score=0.4)), {"physician": "p1"}),
    Document("a/2", "😀𠮷野さん、胸痛\n腹痛", (Entity(6, 8, score=0.5), Entity(9, 11, "s", score=1.0)),
             {"physician": "p2"}),
    Document("b", "著変なし", (), {"physician": "p1"}),
)  # fmt: skip


def accepted(path, tool):
    """What the tool exports when its annotator accepts every suggestion: shapes of Label Studio 1.x, doccano, brat."""
    if tool == "labelstudio":
        tasks = json.loads(path.read_text(encoding="utf-8"))
        for number, task in enumerate(tasks, 1):
            kept = [{k: v for k, v in row.items() if k != "score"} for row in task["predictions"][0]["result"]]
            task |= {"id": number, "annotations": [{"id": number, "was_cancelled": False, "result": kept}]}
        path.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    return {"labelstudio": {"offsets": "codepoints"}, "doccano": {"offsets": "codepoints"},
            "brat": {"meta": "notes.csv"}}[tool]  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_accepted_suggestions_come_back_as_the_same_entities(tmp_path, tool):
    path = write_suggestions(NOTES, tool, tmp_path, "s-crf-A-0")
    back = read_corpus(path, tool, **accepted(path, tool))
    assert {d.id: (d.text, [e.key for e in d.entities]) for d in back} == {
        d.id: (d.text, [e.key for e in d.entities]) for d in NOTES
    }
    assert all(d.meta["physician"] for d in back)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_file_is_its_owners_alone(tmp_path, tool):
    write_suggestions(NOTES, tool, tmp_path, "v")
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files and all(p.stat().st_mode & 0o077 == 0 for p in files)


def test_label_studio_gets_predictions_with_scores_and_no_annotation(tmp_path):
    tasks = json.loads(write_suggestions(NOTES, "labelstudio", tmp_path, "s-crf-A-0").read_text(encoding="utf-8"))
    assert all("annotations" not in task for task in tasks)
    prediction = tasks[0]["predictions"][0]
    assert prediction["model_version"] == "s-crf-A-0" and prediction["score"] == pytest.approx(0.655)
    assert prediction["result"][0] == {
        "id": "r1", "to_name": "text", "from_name": "label", "type": "labels", "score": 0.91,
        "value": {"start": 0, "end": 2, "text": "発熱", "labels": ["d"]},
    }  # fmt: skip
    assert "score" not in tasks[2]["predictions"][0] and tasks[2]["predictions"][0]["result"] == []
    configuration = (tmp_path / "labelstudio.xml").read_text(encoding="utf-8")
    assert '<Labels name="label" toName="text">' in configuration and '<Label value="s"/>' in configuration


def test_brat_gets_scores_as_notes_and_a_configuration(tmp_path):
    folder = write_suggestions(NOTES, "brat", tmp_path, "v")
    assert (folder / "a/1.ann").read_text(encoding="utf-8").splitlines() == [
        "T1\td 0 2\t発熱", "#1\tAnnotatorNotes T1\tscore 0.910",
        "T2\td 5 7\t咳嗽", "#2\tAnnotatorNotes T2\tscore 0.400",
    ]  # fmt: skip
    assert "[entities]\nd\ns\n" in (folder / "annotation.conf").read_text(encoding="utf-8")


def test_what_an_annotator_may_have_changed_in_brat_is_not_overwritten(tmp_path):
    write_suggestions(NOTES, "brat", tmp_path, "v")
    with pytest.raises(DataError, match="is there already"):
        write_suggestions(NOTES, "brat", tmp_path, "v")


def test_a_certainty_stays_where_the_tool_has_a_place_and_joins_the_label_in_doccano(tmp_path):
    sure = (Document("n", "発熱なし", (Entity(0, 2, certainty="negative", score=0.7),)),)
    for tool in ("labelstudio", "brat"):
        path = write_suggestions(sure, tool, tmp_path, "v")
        how = accepted(path, tool)
        how.pop("meta", None)
        assert read_corpus(path, tool, **how).documents[0].entities[0].certainty == "negative"
    path = write_suggestions(sure, "doccano", tmp_path, "v")
    row = json.loads(path.read_text(encoding="utf-8"))
    assert row["label"] == [[0, 2, "d-negative"]] and row["lowest_score"] == "0.700"


def test_an_unknown_tool_is_refused(tmp_path):
    with pytest.raises(DataError, match="labelstudio"):
        write_suggestions(NOTES, "prodigy", tmp_path, "v")
