"""The reference runs: what a fresh clone opens in the place of hours of training."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity, Prediction, fingerprint
from nbutils.corpus.formats import write_medtxt
from nbutils.files import DataError
from nbutils.study import runs
from nbutils.study.corpora import corpus_path, evaluation_corpus, open_corpora, open_corpus
from nbutils.study.file import CorpusEntry, load_study
from tools import reference_runs

KEPT = ROOT / reference_runs.REFERENCE


@pytest.fixture
def plan(tmp_path):
    notes = tuple(Document(f"n{k}", "発熱あり。\n", (Entity(0, 2),)) for k in range(5))
    for name in ("CR", "PN"):
        write_medtxt(Corpus(name, notes), tmp_path / f"{name}.xml")
    path = tmp_path / "small.yaml"
    path.write_text(
        f"corpora: {{CR: {{path: {tmp_path}/CR.xml}}, PN: {{path: {tmp_path}/PN.xml}}}}\n"
        "seeds: [0]\nsystems: {crf: {iterations: 5}}\n",
        encoding="utf-8",
    )
    return load_study(path)


@pytest.fixture
def finished(plan, tmp_path):
    """A finished study with all that a run leaves behind."""
    corpora = open_corpora(plan)
    for _, train, seed in plan.runs():
        folder = runs.run_folder(tmp_path / "runs", plan.name, "crf", train, seed)
        for name in plan.evaluate:
            gold = evaluation_corpus(plan, corpora, train, name)
            found = [Prediction(d.id, (Entity(0, 2, score=1 / 3),)) for d in gold]
            runs.write_predictions(found, gold, folder / "predictions" / f"{name}.jsonl")
        (folder / "model").mkdir()
        (folder / "model" / "crf.model").write_bytes(b"weights")
        (folder / "notebook.ipynb").write_text("{}", encoding="utf-8")
        runs.write_run(folder, {"system": "crf", "train": train, "seed": seed})
    table = tmp_path / "runs" / plan.name / "generalisation" / "curves.csv"
    table.parent.mkdir()
    table.write_text("f1\n1\n", encoding="utf-8")
    return tmp_path / "runs"


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_reference_has_records_predictions_and_tables_but_no_model_and_no_notebook(plan, finished, tmp_path):
    folder = reference_runs.copy_reference(plan, finished, tmp_path / "reference")
    of_a_run = {"run.json", "predictions/CR.jsonl", "predictions/PN.jsonl"}
    wanted = {f"crf/{train}/seed-0/{name}" for train in ("CR", "PN") for name in of_a_run}
    assert names(folder) == wanted | {"generalisation/curves.csv"}


def test_the_reference_reads_as_the_runs_it_was_copied_from(plan, finished, tmp_path):
    reference_runs.copy_reference(plan, finished, tmp_path / "reference")
    corpora = open_corpora(plan)
    for there, here in zip(*(runs.read_runs(tmp_path / f, plan.name) for f in ("reference", "runs")), strict=True):
        gold = evaluation_corpus(plan, corpora, here.train, "PN")
        assert there.record == here.record and there.predictions(gold) == here.predictions(gold)


def test_a_second_copy_leaves_nothing_of_the_first(plan, finished, tmp_path):
    folder = reference_runs.copy_reference(plan, finished, tmp_path / "reference")
    (folder / "crf" / "CR" / "seed-7").mkdir()
    (folder / "crf" / "CR" / "seed-7" / "run.json").write_text("{}", encoding="utf-8")
    assert not any(
        "seed-7" in name for name in names(reference_runs.copy_reference(plan, finished, tmp_path / "reference"))
    )


def test_tables_that_a_study_took_from_the_reference_stay_there(plan, finished, tmp_path):
    folder = reference_runs.copy_reference(plan, finished, tmp_path / "reference")
    (finished / plan.name / "generalisation" / "curves.csv").unlink()
    reference_runs.copy_reference(plan, finished, tmp_path / "reference")
    assert (folder / "generalisation" / "curves.csv").read_text(encoding="utf-8") == "f1\n1\n"


def test_an_unfinished_study_is_not_copied_and_the_old_reference_stays(plan, finished, tmp_path):
    folder = reference_runs.copy_reference(plan, finished, tmp_path / "reference")
    before = names(folder)
    (finished / plan.name / "crf" / "PN" / "seed-0" / "run.json").unlink()
    with pytest.raises(DataError, match=r"PN/seed-0/run\.json: no finished run"):
        reference_runs.copy_reference(plan, finished, tmp_path / "reference")
    assert names(folder) == before and not list((tmp_path / "reference").glob(".*"))


def test_runs_on_private_notes_are_never_copied(plan, finished, tmp_path):
    private = replace(plan, corpora=plan.corpora | {"PN": CorpusEntry(plan.corpora["PN"].path, private=True)})
    with pytest.raises(DataError, match="private"):
        reference_runs.copy_reference(private, finished, tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


def test_probabilities_are_kept_with_four_digits(plan, finished):
    line = next((finished / plan.name / "crf" / "CR" / "seed-0" / "predictions" / "PN.jsonl").open(encoding="utf-8"))
    assert json.loads(line)["entities"][0]["score"] == 0.3333


# --- which runs a notebook opens -------------------------------------------------------------------------------------


def test_notebooks_open_the_wanted_runs_and_else_say_that_they_read_runs(plan, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    assert len(runs.open_runs("reference", plan.name)) == 2
    assert "reference has no runs" in capsys.readouterr().out
    reference_runs.copy_reference(plan, finished, tmp_path / "reference")
    assert {run.folder.parts[-5] for run in runs.open_runs("reference", plan.name)} == {"reference"}
    assert not capsys.readouterr().out


def test_without_any_run_a_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    with pytest.raises(DataError, match="no finished runs in reference nor in runs; run `make study STUDY=demo`"):
        runs.open_runs("reference", "demo")


# --- the runs that are in the repository -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(p.name for p in KEPT.glob("[!.]*")) if KEPT.exists() else [])
def test_the_reference_runs_are_complete_and_of_the_bundled_notes(name):
    plan = load_study(ROOT / "studies" / f"{name}.yaml")
    found = {(run.system, run.train, run.seed): run for run in runs.read_runs(KEPT, name)}
    assert set(found) == {(system.name, train, seed) for system, train, seed in plan.runs()}
    marks = {}
    for corpus in plan.corpora:
        with suppress(DataError):  # JMED-LLM is not on every machine
            corpus_path(plan, corpus)
            marks[corpus] = fingerprint(open_corpus(plan, corpus))
    kept = [
        (corpus, mark) for run in found.values() for corpus, mark in run.record["corpora"].items() if corpus in marks
    ]
    assert kept and all(mark == marks[corpus] for corpus, mark in kept)


def test_what_models_wrote_about_notes_from_elsewhere_is_left_out(plan, finished, tmp_path):
    corpora = open_corpora(plan)
    for _, train, seed in plan.runs():
        folder = runs.run_folder(finished, plan.name, "crf", train, seed)
        gold = evaluation_corpus(plan, corpora, train, "PN")
        wrote = [Prediction(d.id, (Entity(0, 2),), raw=d.text, repairs={"x": 1}) for d in gold]
        runs.write_predictions(wrote, gold, folder / "predictions" / "PN.jsonl")
    folder = reference_runs.copy_reference(plan, finished, tmp_path / "reference")
    rows = [json.loads(line) for path in folder.glob("crf/*/*/predictions/PN.jsonl") for line in path.open()]
    assert len(rows) == 6 and all(set(row) == {"id", "text_hash", "entities", "repairs"} for row in rows)


def test_the_reference_runs_are_small_enough_for_a_repository():
    # The demo and the small pretrained models; the raw answers of the prompted rows are a good part of it.
    assert sum(path.stat().st_size for path in KEPT.rglob("*") if path.is_file()) < 16e6
