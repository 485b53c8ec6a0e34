"""One filter for every analysis: what the study file no longer asks for is in no table, interval or test."""

from dataclasses import replace

import pytest
from matplotlib.text import Text

from nbutils.analysis import calibration, errors, main_result, significance
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.figures.main_result import main_result as draw_main_result
from nbutils.study import runs
from nbutils.study.file import Study, System
from nbutils.study.results import Results

STUDY = Study("s", {}, {"b": System("b", "crf", (0, 1), {}, "B"), "a": System("a", "crf", (0,), {}, "A")},
              train=("CR",), evaluate=("CR", "PN"), seeds=(0, 1))  # fmt: skip
FEVER = Entity(0, 2, score=0.9)


@pytest.fixture
def results(tmp_path):
    """Every run of the grid, and two stale ones that find nothing: a seed and a system that are no longer asked for."""
    corpora = {name: Corpus(name, tuple(Document(f"{name}{k}", "発熱あり", (FEVER,)) for k in range(5)))
               for name in ("CR", "PN")}  # fmt: skip
    for system, seed in (("a", 0), ("a", 1), ("b", 0), ("b", 1), ("old", 0)):
        place = runs.run_folder(tmp_path, "s", system, "CR", seed)
        stale = (system, seed) in (("a", 1), ("old", 0))
        gold = Results(STUDY, corpora, ())
        for name in STUDY.evaluate:
            target = gold.gold("CR", name)
            predicted = [Prediction(d.id, () if stale else (FEVER,)) for d in target]
            runs.write_predictions(predicted, target, place / "predictions" / f"{name}.jsonl")
        runs.write_run(place, {"system": system, "train": "CR", "seed": seed})
    return Results(STUDY, corpora, runs.read_runs(tmp_path, "s"))


def test_runs_are_those_of_the_grid_in_the_studys_order(results):
    assert [(run.system, run.seed) for run in results.runs] == [("b", 0), ("b", 1), ("a", 0)]


def test_a_stale_seed_enters_neither_tables_nor_intervals_nor_errors(results):
    assert set(main_result.score_runs(results)["f1"]) == {100}
    evaluated = significance.evaluations(results)
    assert {key: len(e.counts) for key, e in evaluated.items()} == {
        ("b", "CR", "CR"): 2, ("b", "CR", "PN"): 2, ("a", "CR", "CR"): 1, ("a", "CR", "PN"): 1
    }  # fmt: skip
    assert set(significance.f1_table(STUDY, evaluated)["F1 (%)"]) == {100}
    assert errors.of_runs(results, train="CR", evaluate="PN").empty
    assert errors.runs_of(results, "CR") == {"b": 2, "a": 1}
    assert set(calibration.outcomes_of_runs(results)["seed"]) == {0, 1}
    assert len(calibration.outcomes_of_runs(results)) == 3 * (1 + 5)


def test_a_split_is_drawn_once(results, monkeypatch):
    drawn = []
    monkeypatch.setattr("nbutils.study.results.split", lambda *_: drawn.append(1) or (Corpus("x", ()), Corpus("x", ())))
    fresh = Results(results.study, results.corpora, results.runs)
    for _ in range(3):
        list(fresh.scored())
    assert len(drawn) == 1


def test_every_table_and_figure_names_a_model_that_is_not_the_original(results, tmp_path, monkeypatch):
    source = {"model": "m/small", "weights": "not the original: 4-bit weights"}
    copied = [replace(run, record=run.record | {"model_source": source}) for run in results.runs]
    study = replace(STUDY, caption="Fictional notes.")
    found = Results(study, results.corpora, copied)
    said = "m/small is not the original: 4-bit weights."
    assert found.study.caption.splitlines() == ["Fictional notes.", said]
    assert Results(found.study, results.corpora, copied).study == found.study  # once, however often it is opened
    assert results.study == STUDY  # originals have nothing to say
    monkeypatch.setattr("nbutils.analysis.main_result.figure_folder", lambda _: tmp_path)
    scores = main_result.score_runs(found)
    path = main_result.write_main_result(found.study, main_result.main_table(found.study, scores))
    assert path.read_text(encoding="utf-8").count(said) == 1
    figure = draw_main_result(found.study, scores)
    assert any(said in text.get_text() for text in figure.findobj(Text))
