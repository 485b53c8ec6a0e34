"""A study file is checked before anything is started."""

import pytest

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.study.__main__ import main
from nbutils.study.corpora import open_corpora
from nbutils.study.file import load_study

GOOD = "corpora:\n  A: {path: data/cr}\n  B: {path: data/pn}\nsystems:\n  crf:\n"


def loaded(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path)


def test_a_short_file_gets_every_default(tmp_path):
    plan = loaded(tmp_path, GOOD)
    assert plan.name == "mine" and plan.train == plan.evaluate == ("A", "B")
    assert len(list(plan.runs())) == 6


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "studies").glob("*.yaml")))
def test_the_studies_of_the_repository_are_sound(name):
    assert list(load_study(ROOT / "studies" / f"{name}.yaml").runs())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace("systems", "sytems"), 'unknown key "sytems"; did you mean "systems"?'),
        (GOOD.replace("  crf:\n", "  crf: {iteratons: 3}\n"), 'did you mean "iterations"?'),
        (GOOD.replace("{path: data/cr}", "{pth: data/cr}"), 'did you mean "path"?'),
        (GOOD.replace("  crf:\n", "  crv:\n"), 'unknown kind "crv"; did you mean "crf"?'),
        (GOOD.replace("  crf:\n", "  bert:\n"), 'the key "model" is missing'),
        (GOOD.replace("  crf:\n", "  bert: {model: tiny/llm}\n"), 'use "tiny/encoder"'),
        (GOOD.replace("  crf:\n", "  crf: {iterations: many}\n"), "is not of the type int"),
        (GOOD + "train: [C]\n", 'no corpus "C"'),
        (GOOD + "seeds: [a]\n", "whole numbers"),
        (GOOD + "test_fraction: 2.0\n", "between 0 and 1"),
        (GOOD + "tiny: {encodr: {}}\n", 'did you mean "encoder"?'),
        (GOOD.replace("A:", "A/B:"), "letters, digits"),
        (GOOD.replace("path: data/cr", "path: data/cr, format: xml"), "unknown format"),
        (GOOD + "compare: [[crf, brt]]\n", 'compare: no system "brt"'),
        (GOOD + "compare: [crf]\n", "pairs of two systems"),
        (GOOD + "cluster: [a, b, c]\n", "one or two keys"),
        (GOOD + "margin: 0\n", "above 0"),
        ("a: [", "line 1"),
        ("- a\n", "a mapping"),
    ],
)
def test_a_faulty_study_is_refused_with_the_nearest_mend(tmp_path, text, sentence):
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, text)
    assert sentence in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_variable_that_is_not_set_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    plan = loaded(tmp_path, GOOD.replace("data/cr", "$NOWHERE/x.xml"))
    with pytest.raises(DataError, match=r"\$NOWHERE is not set"):
        open_corpora(plan)


def test_the_command_says_one_sentence_and_fails(tmp_path, capsys):
    (tmp_path / "bad.xml").write_text("<root>", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(GOOD.replace("data/cr", str(tmp_path / "bad.xml")), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    assert main(["check", str(tmp_path / "mine.yaml")]) == 1
    out = capsys.readouterr()
    assert out.out == "" and out.err.count("\n") == 1 and "Traceback" not in out.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_reports_a_sound_study(capsys):
    assert main(["check", str(ROOT / "studies" / "demo.yaml")]) == 0
    assert "are sound" in capsys.readouterr().out


def test_an_unknown_study_names_those_that_exist(tmp_path):
    with pytest.raises(DataError, match="demo"):
        load_study(tmp_path / "nothing.yaml")
