"""Like for like: every note tested once in every way, nothing shared where nothing should be, any tagger."""

from collections import Counter
from dataclasses import replace
from unicodedata import normalize

import pandas as pd
import pytest
from transformers import AutoTokenizer

from nbutils import load_study, open_corpora
from nbutils.analysis import cross_fitting
from nbutils.analysis.cross_fitting import APART, FAR, FAR_CUT, NEAR, NEAR_CUT
from nbutils.analysis.generalisation import count_entities
from nbutils.taggers.dictionary import fit_dictionary
from nbutils.taggers.lora import prompt_text


@pytest.fixture(scope="module")
def study():
    return load_study("studies/demo.yaml")


@pytest.fixture(scope="module")
def corpora(study):
    return open_corpora(study)


@pytest.fixture(scope="module")
def like(study, corpora):
    each = {"bert": fit_dictionary, "lora": lambda documents: fit_dictionary(documents[:5])}
    tables = [cross_fitting.counts(study, corpora, "PN", "CR", s, fit=fit, progress=False) for s, fit in each.items()]
    return pd.concat(tables, ignore_index=True)


def test_every_note_is_tested_once_in_every_way(corpora):
    folds = cross_fitting.folds(corpora["PN"], corpora["CR"])
    assert list(folds) == [NEAR, FAR, NEAR_CUT, FAR_CUT, APART]
    for some in folds.values():
        assert set(Counter(d.id for fold in some for d in fold.test).values()) == {1}
        assert sum(len(fold.test) for fold in some) == len(corpora["PN"])


def test_sizes_are_equal_where_they_should_be_and_nothing_is_shared(corpora):
    folds = cross_fitting.folds(corpora["PN"], corpora["CR"])
    sizes = {count_entities(f.train) for name in (NEAR_CUT, FAR_CUT, APART) for f in folds[name]}
    assert max(sizes) - min(sizes) < 60  # one note more or less
    for fold in folds[APART]:
        for key in ("case", "physician"):
            assert not {d.meta[key] for d in fold.train} & {d.meta[key] for d in fold.test}


def test_the_gap_of_each_system_and_their_difference_are_on_the_same_notes(study, like):
    gaps = cross_fitting.table(like)
    assert set(gaps["notes"]) == {100} and len(gaps) == 6
    differences = cross_fitting.difference_table(study, like)
    first, second = (study.systems[name].title for name in study.compare[0])
    for step, row in differences.droplevel(["first", "second"]).iterrows():
        expected = gaps.loc[(step, first), "gap (points)"] - gaps.loc[(step, second), "gap (points)"]
        assert row["difference of gaps (points)"] == pytest.approx(expected)


def test_what_was_not_kept_is_not_trained_unasked(study, corpora, tmp_path):
    def never(documents):
        raise AssertionError("trained")

    asked = {"kept": tmp_path / "x.csv", "progress": False}
    assert cross_fitting.counts(study, corpora, "PN", "CR", "lora", compute=False, fit=never, **asked).empty
    made = cross_fitting.counts(study, corpora, "PN", "CR", "lora", fit=fit_dictionary, **asked)
    again = cross_fitting.counts(study, corpora, "PN", "CR", "lora", fit=never, **asked)
    assert len(made) == len(again) == 500


SMALL = {
    "encoder": {"hidden": 32, "layers": 1, "epochs": 1},
    "llm": {"hidden": 32, "layers": 1, "samples": 8, "longest": 8},
}


@pytest.mark.parametrize(("name", "kind"), [("bert", "encoder"), ("lora", "llm")])
def test_a_neural_system_is_fitted_from_its_own_notes_alone_and_tags_others(study, corpora, tmp_path, name, kind):
    notes = corpora["PN"].documents
    small = replace(study, tiny=SMALL)
    tagger = cross_fitting.fit_system(small, name, notes[:3], folder=tmp_path)
    assert [p.document_id for p in tagger.predict(notes[3:5])] == [d.id for d in notes[3:5]]
    known = set(AutoTokenizer.from_pretrained(tmp_path / kind).get_vocab())
    own, others = ({c for d in some for c in normalize("NFKC", d.text)} - {"\n"} for some in (notes[:3], notes[3:]))
    of_prompt = set(prompt_text("tiny_ja", "", study.types)) if name == "lora" else set()
    assert own <= known and not known & {c for c in others - own - of_prompt if c > "一"}
    before = (tmp_path / kind / "model.safetensors").stat().st_mtime_ns
    cross_fitting.fit_system(small, name, notes[:3], folder=tmp_path)
    assert (tmp_path / kind / "model.safetensors").stat().st_mtime_ns == before  # built once
