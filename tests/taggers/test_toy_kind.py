"""A kind of system is one entry of `KINDS` and one module: nothing else has to change for a study to run it."""

import json

import pytest

from nbutils import taggers
from nbutils.analysis import main_result
from nbutils.corpus import Corpus
from nbutils.corpus.formats import write_medtxt
from nbutils.study.__main__ import main
from nbutils.study.execute import execute
from nbutils.study.file import load_study
from nbutils.study.results import open_results
from nbutils.tagging import __main__ as tagging
from tools import study_schema

MODULE = '''
"""Marks the strings that were entities in training."""
import json
from dataclasses import asdict
from pathlib import Path

from pydantic.dataclasses import dataclass

from nbutils.taggers.dictionary import DictionaryTagger, fit_dictionary
from nbutils.taggers.settings import STRICT, Count, Texts, read_settings, save_settings


@dataclass(frozen=True, config=STRICT)
class ToySettings:
    labels: Texts = ("d",)
    shortest: Count = 1


class Toy:
    def __init__(self, settings, labels, lengths):
        self.settings, self.inner = settings, DictionaryTagger(labels, lengths)

    def predict(self, documents, progress=False):
        return self.inner.predict(documents, progress)

    def save(self, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_settings(self.settings, folder)
        words = {"labels": self.inner.labels, "lengths": {c: sorted(n) for c, n in self.inner.lengths.items()}}
        (Path(folder) / "words.json").write_text(json.dumps(words))


def fit(documents, settings, *, seed, progress=True):
    inner = fit_dictionary(documents)
    return Toy(settings, {w: t for w, t in inner.labels.items() if len(w) >= settings.shortest}, inner.lengths)


def load(folder):
    return Toy(read_settings(ToySettings, folder), **json.loads((folder / "words.json").read_text()))
'''


@pytest.fixture
def study(tmp_path, monkeypatch, notes):
    (tmp_path / "toy_kind.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import toy_kind

    kind = taggers.Kind(toy_kind.ToySettings, "toy_kind", "notebooks/03_crf_baseline.ipynb", gpu=False)
    monkeypatch.setitem(taggers.KINDS, "toy", kind)
    write_medtxt(Corpus("A", notes), tmp_path / "a.xml")
    write_medtxt(Corpus("B", notes[:6]), tmp_path / "b.xml")
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"corpora:\n  A: {{path: {tmp_path}/a.xml}}\n  B: {{path: {tmp_path}/b.xml}}\n"
        "train: [A]\nseeds: [0]\nsystems:\n  toy: {shortest: 2}\n",
        encoding="utf-8",
    )
    return load_study(path)


def test_a_new_kind_of_system_is_checked_run_scored_and_put_to_work(study, tmp_path, notes, capsys):
    assert main(["check", str(study.path)]) == 0
    run = execute(study, "toy", "A", 0, runs=tmp_path / "runs", progress=False)
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert record["kind"] == "toy" and record["settings"] == {"labels": ["d"], "shortest": 2}
    again = taggers.load("toy", run.folder / "model")
    assert any(p.entities for p in again.predict(notes))
    results = open_results(study.path, tmp_path / "runs")
    assert [(r.system, r.train, r.seed) for r in results.runs] == [("toy", "A", 0)]
    assert not main_result.main_table(study, main_result.score_runs(results)).empty
    tagged = ["--run", str(run.folder), "--notes", str(tmp_path / "b.xml"), "--out", str(tmp_path / "out")]
    assert tagging.main(tagged) == 0 and (tmp_path / "out" / "tagged.jsonl").exists()


def test_a_new_kind_of_system_is_in_the_schema_and_its_keys_are_checked(study, tmp_path):
    assert "shortest" in study_schema.schema()["$defs"]["toy"]["properties"]
    study.path.write_text(study.path.read_text(encoding="utf-8").replace("shortest: 2", "shortes: 2"), encoding="utf-8")
    with pytest.raises(ValueError, match='did you mean "shortest"'):
        load_study(study.path)
