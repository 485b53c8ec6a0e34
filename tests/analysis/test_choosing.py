"""Chosen against drawn notes: the pool and the test part share no case, and the table is that of the counts."""

import pandas as pd
import pytest

from nbutils import ROOT
from nbutils.analysis import choosing
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.corpus.formats import read_corpus
from nbutils.study.corpora import open_corpora
from nbutils.study.file import load_study


@pytest.fixture(scope="module")
def pn():
    return read_corpus(ROOT / "data/pn", name="PN")


@pytest.mark.parametrize("repeat", range(5))
def test_pool_and_test_share_no_case_and_hold_every_note_once(pn, repeat):
    pool, test = choosing.pool_and_test(pn, repeat)
    assert not {d.meta["case"] for d in pool} & {d.meta["case"] for d in test}
    assert sorted(d.id for d in (*pool, *test)) == sorted(d.id for d in pn)


def test_notes_that_name_nothing_cannot_be_divided():
    with pytest.raises(ValueError, match="name no case"):
        choosing.pool_and_test(read_corpus(ROOT / "data/cr", name="CR"), 0)


def test_a_small_comparison_has_every_way_number_and_repeat(tmp_path):
    hospitals = read_corpus(ROOT / "data/examples/three_hospitals", "jsonl", "H")
    source = Corpus("CR", read_corpus(ROOT / "data/cr").documents[:4])
    asked = {"notes": (4,), "repeats": 2, "source_entities": 60, "iterations": 5, "kept": tmp_path / "c.csv"}
    counts = choosing.choosing_counts(hospitals, source, **asked, progress=False)
    assert set(counts["regime"]) == {choosing.SOURCE, *choosing.WAYS} and set(counts["repeat"]) == {0, 1}
    again = choosing.choosing_counts(hospitals, source, **asked, progress=False)  # read, not computed
    columns = ["regime", "notes", "repeat", "document", "matched"]
    pd.testing.assert_frame_equal(counts[columns], again[columns], check_dtype=False)
    assert choosing.choosing_counts(hospitals, source, notes=(5,), compute=False).empty
    table = choosing.choosing_table(counts)
    gain = table["chosen: F1 (%)"] - table["drawn: F1 (%)"]
    assert table["choosing adds (points)"].tolist() == pytest.approx(gain.tolist())
    assert "with 4 notes" in choosing.verdict(table)


def counts_of(chosen, drawn):
    """One repeat; 20 notes in 10 cases with `matched` of 10 predicted and 10 gold names."""
    return pd.DataFrame([
        {"regime": regime, "notes": k, "repeat": 0, "document": f"n{n}", "case": f"c{n // 2}",
         "matched": matched + n % 2, "n_predicted": 10, "n_gold": 10}
        for regime, k, matched in ((choosing.SOURCE, 0, 2), ("random", 5, drawn), ("expected", 5, chosen))
        for n in range(20)
    ])  # fmt: skip


def test_the_kept_comparison_of_the_demo_study_is_read_and_not_computed():
    study = load_study(ROOT / "studies/demo.yaml")
    table = choosing.of_study(study, open_corpora(study), "PN", "CR", "data/reference_runs")
    assert list(table.index) == [10, 20]


def test_without_results_the_sentence_says_so():
    assert choosing.verdict(choosing.choosing_table(pd.DataFrame())) == "Chosen and drawn notes were not compared."


def test_the_sentence_follows_the_interval():
    noisy = counts_of(7, 5)
    noisy.loc[noisy["document"] == "n3", "matched"] += 1  # differences that are all the same have no interval
    noisy.loc[(noisy["document"] == "n7") & (noisy["regime"] == "expected"), "matched"] += 1
    table = choosing.choosing_table(noisy)
    assert table["choosing adds (points)"].iloc[0] == pytest.approx(20.5) and "choosing paid" in choosing.verdict(table)


def test_a_ranking_of_private_notes_names_none_of_them():
    notes = tuple(Document(f"山田-{k}", "発熱あり" * (k + 1), (Entity(0, 2),)) for k in range(3))
    predictions = [Prediction(d.id, (Entity(0, 2, score=0.5),) if d.id.endswith("0") else ()) for d in notes]
    table = choosing.ranking(Corpus("p", notes, private=True), predictions, 3)
    assert table["note"].str.fullmatch(r"note \d").all() and "山田" not in table.to_string()
    assert table.set_index("note").loc["note 1", "true F1 (%)"] == 100
