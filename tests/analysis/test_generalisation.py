"""Memory and what lies beyond it: the dictionary, training notes that are kept away, and sizes that are matched."""

import random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import figures
from nbutils.analysis import generalisation
from nbutils.analysis.generalisation import BEYOND, ID, NEITHER, OOD, WHOLE, first_notes, regimes
from nbutils.corpus import Corpus, Document, Entity
from nbutils.scoring.spans import exact_scores
from nbutils.study.file import Study, System
from nbutils.taggers.dictionary import fit_dictionary

STUDY = Study("small", {}, {"crf": System("crf", "crf", (0,), {}, "CRF")}, caption="Small.")


def marked(id, text, *names, **meta):
    """A note with the first occurrence of each name marked."""
    return Document(id, text, tuple(Entity(text.index(n), text.index(n) + len(n)) for n in names), meta)


def surfaces(text, tagger):
    (prediction,) = tagger.predict([Document("1", text)])
    return [text[e.start : e.end] for e in prediction.entities]


def one_name_a_case(n_cases=4, n_physicians=4):
    """Notes in which every case has a disease of its own and every physician a way of writing."""
    diseases, styles = ["肺炎", "胃癌", "貧血", "脳梗塞"], ["{}を認める。", "{}あり", "所見：{}", "{}との診断です。"]
    notes = [
        marked(f"PN-{p}-{c}", styles[p].format(diseases[c]), diseases[c], case=f"case-{c}", physician=f"phys-{p}")
        for p in range(n_physicians)
        for c in range(n_cases)
    ]
    return Corpus("PN", tuple(notes))


def elsewhere(n=20):
    return Corpus("CR", tuple(marked(f"CR-{k}", f"症例は頭痛を訴えた{k}。", "頭痛") for k in range(n)))


# --- the dictionary --------------------------------------------------------------------------------------------------


def test_the_longest_known_name_is_taken():
    tagger = fit_dictionary(
        [marked("1", "心筋梗塞と急性心筋梗塞", "心筋梗塞"), marked("2", "急性心筋梗塞", "急性心筋梗塞")]
    )
    assert surfaces("急性心筋梗塞後の心筋梗塞", tagger) == ["急性心筋梗塞", "心筋梗塞"]


def test_names_are_taken_from_left_to_right():
    tagger = fit_dictionary([marked("1", "肺炎 炎症", "肺炎", "炎症")])
    assert surfaces("肺炎症", tagger) == ["肺炎"]


def test_a_name_has_its_most_frequent_type():
    notes = [Document(str(k), "発熱", (Entity(0, 2, label),)) for k, label in enumerate("mdd")]
    (prediction,) = fit_dictionary(notes).predict([Document("x", "発熱")])
    assert prediction.entities == (Entity(0, 2, "d"),)


def test_without_training_entities_nothing_is_found():
    assert surfaces("発熱", fit_dictionary([Document("1", "発熱")])) == []


@given(
    st.lists(st.text("肺炎症梗a", min_size=1, max_size=4), min_size=1, max_size=6), st.text("肺炎症梗a ", max_size=20)
)
@settings(max_examples=150, deadline=None)
def test_the_dictionary_agrees_with_a_search_of_every_place(names, text):
    found, at = [], 0
    while at < len(text):
        here = max((n for n in names if text.startswith(n, at)), key=len, default="")
        found += [here] if here else []
        at += len(here) or 1
    tagger = fit_dictionary([Document(str(k), n, (Entity(0, len(n)),)) for k, n in enumerate(names)])
    assert surfaces(text, tagger) == found


# --- training parts --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 20), st.integers(0, 20), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_larger_training_parts_hold_the_smaller_ones_and_reach_their_size(densities, small, more, seed):
    notes = [Document(str(k), "a" * 9, tuple(Entity(e, e + 1) for e in range(n))) for k, n in enumerate(densities)]
    corpus = Corpus("c", tuple(notes))
    one, other = (first_notes(corpus, size, seed=seed) for size in (small, small + more))
    assert [d.id for d in one] == [d.id for d in other][: len(one)]
    assert generalisation.count_entities(one) >= min(small, sum(densities))


def test_a_training_part_stops_at_the_first_note_that_reaches_the_size():
    part = first_notes(elsewhere(20), 7)
    assert generalisation.count_entities(part) == 7


@pytest.fixture(scope="module")
def four_by_four():
    return regimes(one_name_a_case(), elsewhere(), n_groups=2)


def test_regimes_go_from_near_to_far(four_by_four):
    assert list(four_by_four) == [ID, "without the case", "without the physician", NEITHER, OOD]


def test_every_regime_tests_every_note_once(four_by_four):
    for folds in four_by_four.values():
        assert sorted(d.id for f in folds for d in f.test) == sorted(d.id for d in one_name_a_case())


def test_every_regime_trains_on_the_same_number_of_entities(four_by_four):
    sizes = {generalisation.count_entities(f.train) for folds in four_by_four.values() for f in folds}
    assert sizes == {4}  # what leaving out two cases and two physicians of four leaves


def test_no_regime_trains_on_a_test_note(four_by_four):
    for folds in four_by_four.values():
        assert all(not {d.id for d in f.train} & {d.id for d in f.test} for f in folds)


def test_without_both_means_neither_the_case_nor_the_physician(four_by_four):
    for fold in four_by_four[NEITHER]:
        for key in ("case", "physician"):
            assert not {d.meta[key] for d in fold.train} & {d.meta[key] for d in fold.test}


def test_notes_without_case_and_physician_have_only_two_regimes():
    bare = Corpus("NR", tuple(marked(str(k), "発熱あり", "発熱") for k in range(8)))
    assert list(regimes(bare, elsewhere(), n_groups=2)) == [ID, OOD]


def test_a_key_that_some_notes_lack_is_not_grouped_by():
    notes = [*one_name_a_case().documents, marked("x", "肺炎", "肺炎", case="case-0")]
    assert list(regimes(Corpus("PN", tuple(notes)), elsewhere(), n_groups=2)) == [ID, "without the case", OOD]


def test_the_overlap_table_shows_what_each_regime_keeps_away(four_by_four):
    table = generalisation.overlap_table(four_by_four)
    same_case, same_hand = "training notes of the same case, mean", "training notes of the same physician, mean"
    assert table.loc["without the case", same_case] == 0 < table.loc["without the case", same_hand]
    assert table.loc[NEITHER, same_case] == table.loc[NEITHER, same_hand] == table.loc[OOD, same_case] == 0


# --- scores and the gap ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counts():
    return generalisation.regime_counts(one_name_a_case(), elsewhere(), n_groups=2, iterations=30, progress=False)


def test_a_dictionary_knows_nothing_of_a_case_it_never_saw(counts):
    f1 = generalisation.regime_table(counts).loc["dictionary"]["F1 (%)"]
    assert f1[ID] > 0 and f1["without the case"] == f1[NEITHER] == f1[OOD] == 0


def test_a_dictionary_finds_only_what_it_has_seen(counts):
    rows = counts.query("tagger == 'dictionary'")
    assert (rows["matched"] == rows["matched_seen"]).all()


def test_counts_of_a_note_add_up(counts):
    assert (counts["matched"] <= counts[["n_gold", "n_predicted"]].min(axis=1)).all()
    assert (counts["matched_seen"] <= counts["n_gold_seen"]).all()
    assert (counts["matched"] - counts["matched_seen"] <= counts["n_gold"] - counts["n_gold_seen"]).all()


def test_counts_are_those_of_the_score(counts):
    rows = counts.query("tagger == 'dictionary'").groupby("regime")
    for name, folds in regimes(one_name_a_case(), elsewhere(), n_groups=2).items():
        each = [exact_scores(f.test, fit_dictionary(f.train).predict(f.test)) for f in folds]
        mine = rows.get_group(name)
        assert mine["matched"].sum() == sum(s.matched_gold for s in each)
        assert mine["n_predicted"].sum() == sum(s.n_predicted for s in each)


def test_the_gap_is_the_difference_of_the_scores_and_its_parts_add_up(counts):
    f1 = generalisation.regime_table(counts)["F1 (%)"]
    change = generalisation.gap_table(counts)["change of F1 (points)"]
    for tagger in ("CRF", "dictionary"):
        assert change[tagger, WHOLE] == pytest.approx(f1[tagger, OOD] - f1[tagger, ID])
        assert change[tagger, WHOLE] == pytest.approx(change[tagger, NEITHER] + change[tagger, BEYOND])


def test_the_order_of_the_rows_does_not_matter(counts):
    order = list(counts.index)
    random.Random(0).shuffle(order)
    shuffled = generalisation.regime_table(counts.loc[order]).sort_index()
    pd.testing.assert_frame_equal(shuffled, generalisation.regime_table(counts).sort_index())


def test_a_regime_that_changes_nothing_takes_nothing_and_has_no_interval():
    same = pd.concat([one_tagger(regime) for regime in (ID, OOD)])
    row = generalisation.gap_table(same).loc[("CRF", WHOLE)]
    assert row["change of F1 (points)"] == 0 and row[["95 % from", "95 % to"]].isna().all()


def one_tagger(regime):
    """Counts of ten notes under one regime; every second note is matched."""
    rows = [{"regime": regime, "tagger": "CRF", "document": f"{k:02}", "case": "", "physician": "", "matched": k % 2,
             "n_predicted": 1, "n_gold": 1, "matched_seen": 0, "n_gold_seen": 0, "train_notes": 5,
             "train_entities": 5} for k in range(10)]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_figure_has_a_bar_a_regime_and_tagger_and_says_where_the_gap_is(counts):
    table, gaps = generalisation.regime_table(counts), generalisation.gap_table(counts)
    (axes,) = figures.generalisation.gap_decomposed(STUDY, table, gaps).axes
    assert len(axes.patches) == len(table) == 10
    assert f"{gaps.loc[('CRF', WHOLE), 'change of F1 (points)']:+.1f} points" in axes.get_title(loc="left")


def test_without_groups_the_figure_does_not_speak_of_what_leaks():
    same = pd.concat([one_tagger(regime) for regime in (ID, OOD)])
    table, gaps = generalisation.regime_table(same), generalisation.gap_table(same)
    (axes,) = figures.generalisation.gap_decomposed(STUDY, table, gaps).axes
    assert "leak" not in axes.get_title(loc="left")


# --- learning curves -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves():
    corpora = {"CR": elsewhere(), "PN": one_name_a_case()}
    return generalisation.learning_curves(corpora, corpora, sizes=(4, 8, 18), draws=2, iterations=5, progress=False)


def test_curves_compare_training_parts_of_the_same_number_of_entities(curves):
    assert (curves["train_entities"] == curves["size"]).all()


def test_a_size_that_a_corpus_does_not_reach_is_left_out(curves):
    assert set(curves.query("train == 'CR'")["size"]) == {4, 8, 18}
    assert set(curves.query("train == 'PN'")["size"]) == {4, 8}


def test_every_training_part_is_scored_on_every_test_part(curves):
    assert (curves.groupby(["tagger", "train", "size", "draw"])["evaluate"].nunique() == 2).all()


def test_the_curve_table_averages_the_draws(curves):
    row = generalisation.curve_table(curves).loc[("dictionary", "PN", "PN")]
    drawn = curves.query("tagger == 'dictionary' and train == 'PN' and evaluate == 'PN' and size == 4")["f1"]
    assert row[4] == pytest.approx(drawn.mean())


def test_the_curve_figure_has_a_panel_a_test_corpus_and_compares_at_the_largest_common_size(curves):
    figure = figures.generalisation.learning_curves(STUDY, curves)
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "training entities; tested on CR",
        "training entities; tested on PN",
    ]
    assert figure.axes[0].get_title(loc="left").startswith("At 8 entities")


# --- results that are kept -------------------------------------------------------------------------------------------


def test_kept_counts_are_read_again_without_training(tmp_path, counts, monkeypatch):
    path = tmp_path / "deep" / "regimes.csv"
    asked = {"n_groups": 2, "iterations": 30, "kept": path, "progress": False}
    written = generalisation.regime_counts(one_name_a_case(), elsewhere(), **asked)
    monkeypatch.setattr(generalisation, "fit_functions", None)
    again = generalisation.regime_counts(one_name_a_case(), elsewhere(), **asked)
    pd.testing.assert_frame_equal(again, written, check_dtype=False)


@pytest.mark.parametrize("change", [{"iterations": 6}, {"seed": 1}, {"n_groups": 3}])
def test_kept_counts_of_another_setting_are_not_used(tmp_path, change):
    path = tmp_path / "regimes.csv"
    asked = {"n_groups": 2, "iterations": 5, "kept": path, "progress": False}
    generalisation.regime_counts(one_name_a_case(), elsewhere(), **asked)
    before = path.read_text(encoding="utf-8")
    generalisation.regime_counts(one_name_a_case(), elsewhere(), **(asked | change))
    assert path.read_text(encoding="utf-8") != before


def test_one_changed_entity_makes_kept_results_stale():
    corpus = one_name_a_case()
    first = corpus.documents[0]
    changed = Corpus("PN", (Document(first.id, first.text, (), first.meta), *corpus.documents[1:]))
    assert generalisation.made_from([corpus], []) != generalisation.made_from([changed], [])


def test_a_note_called_na_keeps_its_name_when_it_is_read_again(tmp_path):
    path = tmp_path / "rows.csv"
    rows = pd.DataFrame({"document": ["NA", "007"], "case": ["", "01"], "f1": [0.1, 1 / 3]})
    computed = generalisation.kept_or_computed(path, "x", lambda: rows)
    again = generalisation.kept_or_computed(path, "x", lambda: None)
    assert list(again["document"]) == ["NA", "007"] and list(again["case"]) == ["", "01"]
    assert list(again["f1"]) == list(computed["f1"]) == [0.1, 0.3333]


def test_results_are_read_from_the_reference_and_new_ones_are_written_to_runs_alone(tmp_path):
    reference, own = tmp_path / "reference.csv", tmp_path / "own.csv"
    rows = pd.DataFrame({"document": ["a"], "f1": [1.0]})
    generalisation.kept_or_computed(reference, "x", lambda: rows)
    assert len(generalisation.kept_or_computed([reference, own], "x", lambda: None)) == 1 and not own.exists()
    before = reference.read_bytes()
    generalisation.kept_or_computed([reference, own], "y", lambda: rows)
    assert own.exists() and reference.read_bytes() == before
