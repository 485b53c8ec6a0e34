"""What a tagging job says of its result before any label: from a run's own test notes, or nothing."""

import json
from dataclasses import replace

import pytest

from nbutils import ROOT, load_study
from nbutils.scoring.spans import exact_scores
from nbutils.study.corpora import open_corpus, split
from nbutils.study.runs import read_run
from nbutils.tagging.expected import expectation

FOLDER = ROOT / "data" / "reference_runs" / "demo" / "crf" / "CR" / "seed-0"


@pytest.fixture(scope="module")
def run():
    return read_run(FOLDER)


def tagged(corpus):
    """As lines of tagged.jsonl: of this run, the predictions that it left."""
    return (FOLDER / "predictions" / f"{corpus}.jsonl").read_text(encoding="utf-8").splitlines()


def numbers(sentence):
    return [int(word) for word in sentence.replace("%", "").replace(",", " ").split() if word.isdecimal()][:3]


def test_on_its_own_test_notes_a_run_expects_what_it_scored(run):
    part = split(load_study("studies/demo.yaml"), open_corpus(load_study("studies/demo.yaml"), "CR"))[1]
    scored = exact_scores(part, run.predictions(part))
    expected = [100 * scored.precision, 100 * scored.recall, 100 * scored.f1]
    assert numbers(expectation(run, tagged("CR"))) == pytest.approx(expected, abs=1.5)


def test_on_other_notes_it_expects_less_and_warns(run):
    own, other = (expectation(run, tagged(name)) for name in ("CR", "PN"))
    assert numbers(other)[2] < numbers(own)[2] and "often break that" in other


def test_without_scores_or_the_corpus_as_it_was_nothing_is_said(run):
    assert expectation(run, [json.dumps({"entities": [{"start": 0, "end": 2, "label": "d"}]})]) == ""
    for changed in ({"corpora": {"CR": "other"}}, {"split_seed": 7}, {"study": "nowhere"}, {"corpora": None}):
        assert expectation(replace(run, record=run.record | changed), tagged("PN")) == ""
