"""A run on disk: complete only with its record, and bound to the text it was made from."""

import json
from dataclasses import asdict, replace

import pytest

from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.files import DataError
from nbutils.study import runs
from nbutils.taggers.settings import LoraSettings

CORPUS = Corpus("CR", (Document("1", "肺癌を認めた"), Document("2", "異常なし")))
FOUND = [
    Prediction("1", (Entity(0, 2, score=0.5),), raw="<d>肺癌</d>を認めた", repairs={"tag": 1}),
    Prediction("2", ()),
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "CR.jsonl"
    runs.write_predictions(FOUND, CORPUS, path)
    return path


def test_predictions_come_back_as_they_were(path):
    assert runs.read_predictions(path, CORPUS) == FOUND


def test_predictions_for_a_changed_text_are_refused(path):
    changed = replace(CORPUS, documents=(replace(CORPUS.documents[0], text="肺癌を認めず"), CORPUS.documents[1]))
    with pytest.raises(DataError, match='line 1: the text of "1" has changed'):
        runs.read_predictions(path, changed)


def test_predictions_for_another_corpus_are_refused(path):
    with pytest.raises(DataError, match='no document "2"'):
        runs.read_predictions(path, replace(CORPUS, documents=CORPUS.documents[:1]))


def test_a_damaged_line_is_named(path):
    path.write_text(path.read_text(encoding="utf-8") + "{}\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3: not a prediction"):
        runs.read_predictions(path, CORPUS)


def test_a_folder_without_a_record_is_no_finished_run(tmp_path):
    (tmp_path / "s" / "crf" / "CR" / "seed-0" / "predictions").mkdir(parents=True)
    assert runs.read_runs(tmp_path, "s") == []
    with pytest.raises(DataError, match="no finished run"):
        runs.read_run(tmp_path)


def test_a_setting_that_a_record_lacks_had_its_default(tmp_path):
    """Settings come with time, and a run from before one did what the default does now."""
    now = {"kind": "lora", "settings": asdict(LoraSettings(model="m", rank=8))}
    before = {k: v for k, v in now["settings"].items() if k not in ("head", "attention")}
    written = now | {"settings": before, "system": "lora", "train": "CR", "seed": 0}
    kept = runs.checkpoint_folder(tmp_path, now)
    assert runs.checkpoint_folder(tmp_path, now | {"settings": before}) == kept
    for settings, same in (
        (now["settings"], True),
        (now["settings"] | {"head": "classify"}, False),
        (now["settings"] | {"rank": 16}, False),  # a default now; the record says otherwise
    ):
        runs.write_run(tmp_path, written)
        assert (runs.finished_run(tmp_path, now | {"settings": settings}) is not None) == same
        assert (tmp_path / "run.json").exists() == same


def test_a_record_tells_versions_device_and_memory_but_no_path(tmp_path):
    runs.write_run(tmp_path, {"system": "crf", "train": "CR", "seed": 1})
    run = runs.read_run(tmp_path)
    assert (run.system, run.train, run.seed) == ("crf", "CR", 1)
    assert run.record["versions"]["torch"] and run.record["peak_memory_bytes"]["cpu"] > 1_000_000
    assert str(tmp_path) not in (tmp_path / "run.json").read_text(encoding="utf-8")


def test_a_damaged_record_says_what_to_do(tmp_path):
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="delete the run's folder"):
        runs.read_run(tmp_path)


def test_scores_are_kept_to_six_digits_and_no_text_is_written(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows[0]["entities"] == [{"start": 0, "end": 2, "label": "d", "score": 0.5}] and "text" not in rows[1]
