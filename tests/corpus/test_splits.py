"""Splits by case and physician: what is held out stays out, and what an 8:2 split lets through is counted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats import read_corpus
from nbutils.corpus.splits import leave_out, overlap_report, random_folds, same_group_counts, split_by_document


def note(id, text="発熱", case="a", physician="x", spans=((0, 2),)):
    return Document(id, text, tuple(Entity(*s) for s in spans), {"case": case, "physician": physician})


def crossed(n_cases=3, n_physicians=3):
    cells = [(c, p) for c in range(n_cases) for p in range(n_physicians)]
    return Corpus("pn", tuple(note(f"{c}-{p}", case=f"case-{c}", physician=f"phys-{p}") for c, p in cells))


@st.composite
def corpora(draw):
    """Notes with any case and physician: cells may be empty or hold several notes."""
    values = st.integers(0, 4)
    cells = draw(st.lists(st.tuples(values, values), min_size=4, max_size=20))
    notes = [note(str(k), case=f"case-{c}", physician=f"phys-{p}") for k, (c, p) in enumerate(cells)]
    return Corpus("any", tuple(notes))


def folds_of(corpus, *keys):
    try:
        return list(leave_out(corpus, *keys))
    except ValueError:  # one value only, or a fold that leaves nothing
        return []


@given(corpora(), st.sampled_from([("case",), ("physician",), ("case", "physician")]))
@settings(max_examples=100, deadline=None)
def test_no_training_note_shares_a_held_out_value_with_a_test_note(corpus, keys):
    for fold in folds_of(corpus, *keys):
        for key in keys:
            assert not {d.meta[key] for d in fold.train} & {d.meta[key] for d in fold.test}


@given(corpora(), st.sampled_from([("case",), ("physician",), ("case", "physician")]))
@settings(max_examples=100, deadline=None)
def test_every_note_is_tested_exactly_once(corpus, keys):
    folds = folds_of(corpus, *keys)
    tested = sorted(d.id for fold in folds for d in fold.test)
    assert not folds or tested == sorted(d.id for d in corpus)


@given(corpora(), st.sampled_from(["case", "physician"]))
@settings(max_examples=50, deadline=None)
def test_with_one_key_every_note_is_in_one_of_the_two_parts(corpus, key):
    for fold in folds_of(corpus, key):
        assert len(fold.train) + len(fold.test) == len(corpus)


def test_leaving_out_both_leaves_notes_with_only_one_of_them_unused():
    fold = next(leave_out(crossed(3, 3), "case", "physician"))
    assert (len(fold.test), len(fold.train)) == (1, 4)  # of nine: four share the case or the physician alone


def test_leaving_out_each_case_of_ten_by_ten_notes_trains_on_ninety():
    assert [len(fold.train) for fold in leave_out(crossed(10, 10), "case")] == [90] * 10


def test_a_fold_names_what_it_holds_out():
    held = [fold.held_out for fold in leave_out(crossed(2, 2), "case")]
    assert held == [{"case": ("case-0",)}, {"case": ("case-1",)}]


@given(st.integers(2, 5), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_groups_of_cases_differ_in_size_by_one_at_most_and_hold_every_case(n_groups, seed):
    groups = [fold.held_out["case"] for fold in leave_out(crossed(5, 2), "case", n_groups=n_groups, seed=seed)]
    assert sorted(case for group in groups for case in group) == [f"case-{k}" for k in range(5)]
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_groups_in_both_directions_test_every_cell_once():
    folds = list(leave_out(crossed(4, 4), "case", "physician", n_groups=2))
    assert sorted(d.id for fold in folds for d in fold.test) == sorted(d.id for d in crossed(4, 4))
    assert all(len(fold.train) == 4 for fold in folds)


def test_a_cell_without_a_note_gives_no_fold():
    corpus = Corpus("pn", crossed(3, 3).documents[:8])
    assert len(list(leave_out(corpus, "case", "physician"))) == 8


def test_a_note_without_a_physician_is_named():
    corpus = Corpus("pn", (*crossed().documents, Document("lost", "発熱", (), {"case": "case-0"})))
    with pytest.raises(ValueError, match='"lost" of "pn" has no physician'):
        list(leave_out(corpus, "physician"))


def test_a_single_case_cannot_be_left_out():
    with pytest.raises(ValueError, match="leaves no note to train on"):
        list(leave_out(crossed(1, 3), "case"))


def test_more_groups_than_cases_are_refused():
    with pytest.raises(ValueError, match="3 values of case"):
        list(leave_out(crossed(3, 3), "case", n_groups=4))


def test_leaving_out_nothing_is_refused():
    with pytest.raises(ValueError, match="needs a key"):
        list(leave_out(crossed()))


@given(st.integers(2, 9), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_random_folds_test_every_note_once_and_train_on_the_rest(n_folds, seed):
    corpus = crossed(3, 3)
    folds = list(random_folds(corpus, n_folds, seed=seed))
    assert sorted(d.id for fold in folds for d in fold.test) == sorted(d.id for d in corpus)
    assert all({d.id for d in fold.train} == {d.id for d in corpus} - {d.id for d in fold.test} for fold in folds)


def test_more_folds_than_notes_are_refused():
    with pytest.raises(ValueError, match="cannot be cut"):
        list(random_folds(crossed(1, 2), 3))


def test_the_report_counts_mentions_that_training_names():
    train = Corpus("pn", (note("1", "発熱と咳", spans=((0, 2),)),))
    test = Corpus("pn", (note("2", "発熱と発熱と咳", spans=((0, 2), (3, 5), (6, 7))),))
    report = overlap_report(train, test)
    assert report["test mentions whose string is a training entity"] == pytest.approx(2 / 3)
    assert report["distinct test strings that are training entities"] == 1 / 2


def test_the_report_counts_training_notes_of_the_same_case():
    train = Corpus("pn", (note("1", case="a"), note("2", case="a"), note("3", case="b")))
    test = Corpus("pn", (note("4", case="a"), note("5", case="c")))
    assert same_group_counts(train, test, "case") == [2, 0]
    report = overlap_report(train, test)
    assert report["training notes of the same case, mean"] == 1
    assert report["test notes with any of the same case"] == 1 / 2


def test_notes_without_a_case_share_nothing_and_are_not_reported():
    bare = Corpus("cr", (Document("1", "発熱"), Document("2", "咳")))
    assert same_group_counts(bare, bare, "case") == [0, 0]
    report = overlap_report(bare, bare)
    assert not any("case" in name for name in report)
    assert math.isnan(report["test mentions whose string is a training entity"])


def test_leave_out_reports_no_note_of_the_held_out_case():
    for fold in leave_out(crossed(), "case"):
        assert overlap_report(fold.train, fold.test)["training notes of the same case, mean"] == 0


def test_an_8_to_2_split_of_the_progress_notes_leaves_seven_training_notes_of_a_test_notes_case():
    notes = read_corpus(ROOT / "data" / "pn")
    means = []
    for seed in range(20):
        train, test = split_by_document(notes, split_seed=seed)
        means.append(np.mean(same_group_counts(train, test, "case")))
    assert np.mean(means) == pytest.approx(9 * 80 / 99, abs=0.1)  # nine other notes, each in training with 80/99
