"""Two annotators on the same notes: what counts as agreement, and how."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import ROOT
from nbutils.analysis import agreement
from nbutils.analysis.agreement import (
    agreement_table,
    as_the_paper_prints_it,
    certainty_table,
    confusion,
    disagreements,
    kappa,
    lines_that_differ,
    matched_certainties,
    table_by_certainty,
)
from nbutils.corpus import Corpus, Document, Entity, paired
from nbutils.study.corpora import open_annotators, open_corpus
from nbutils.study.file import load_study

NOTE = "発熱と咳嗽を認め、胸水なし\n右下葉に浸潤影"


def note(*spans, id="1"):
    return Document(id, NOTE, tuple(Entity(s, e, certainty=c) for s, e, c in spans))


@st.composite
def spans(draw):
    cuts = sorted(draw(st.sets(st.integers(0, 30), max_size=10)))
    return [Entity(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


def pair_of(first, second, id="1"):
    return Document(id, NOTE * 2, tuple(first)), Document(id, NOTE * 2, tuple(second))


def test_an_entity_with_other_boundaries_matches_partly_but_not_exactly():
    table = agreement_table([pair_of([Entity(0, 2)], [Entity(0, 3)])])
    assert table["matched"].tolist() == [0, 1, 0]


def test_two_entities_inside_one_of_the_other_annotator_match_once():
    table = agreement_table([pair_of([Entity(0, 5)], [Entity(0, 2), Entity(3, 5)])])
    assert table.loc["partial (any shared character)", "matched"] == 1


def test_the_same_span_with_another_certainty_disagrees_only_when_asked():
    table = agreement_table([(note((0, 2, "positive")), note((0, 2, "general")))])
    assert table["matched"].tolist() == [1, 1, 0]


@given(spans(), spans())
@settings(max_examples=60, deadline=None)
def test_partial_matching_is_a_largest_one_to_one_matching(first, second):
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    touches = [[int(a.start < b.end and b.start < a.end) for b in second] for a in first]
    best = 0
    if first and second:
        best = int((maximum_bipartite_matching(csr_matrix(touches), perm_type="column") >= 0).sum())
    assert agreement_table([pair_of(first, second)]).loc["partial (any shared character)", "matched"] == best


@given(spans(), spans())
@settings(max_examples=40, deadline=None)
def test_f1_does_not_care_who_is_first(first, second):
    forth, back = (agreement_table([pair_of(*sides)])["F1"] for sides in ((first, second), (second, first)))
    assert forth.tolist() == pytest.approx(back.tolist(), nan_ok=True)


def test_without_any_entity_nothing_is_defined():
    row = agreement_table([pair_of([], [])]).loc["exact"]
    assert row[["F1", "Jaccard", "share of first's"]].isna().all()


def test_documents_with_another_text_cannot_be_compared():
    with pytest.raises(ValueError, match="same text"):
        paired(Corpus("a", (note(),)), Corpus("b", (Document("1", NOTE + "。"),)))


def test_identical_annotations_have_a_lower_bound_and_are_no_point():
    pairs = [pair_of([Entity(0, 2)], [Entity(0, 2)], str(k)) for k in range(10)]
    row = agreement_table(pairs).loc["exact"]
    assert row["95 % to"] == 1 and row["95 % from"] == pytest.approx(0.025 ** (1 / 10))


def test_disagreements_of_one_physician_make_the_interval_wider_than_notes_say():
    def by(physician, k, second):
        return tuple(
            Document(f"{physician}{k}", NOTE, (Entity(*span),), {"physician": physician}) for span in ((0, 2), second)
        )

    pairs = [by(p, k, (0, 3) if p == "a" else (0, 2)) for p in "abcdef" for k in range(5)]
    by_physician, by_note = (agreement_table(pairs, cluster=c).loc["exact"] for c in (None, ()))
    width = [row["95 % to"] - row["95 % from"] for row in (by_physician, by_note)]
    assert width[0] > 1.5 * width[1]


def test_the_table_counts_each_way_of_matching():
    pairs = [(note((0, 2, "positive"), (3, 5, "positive")), note((0, 2, "general"), (3, 6, "positive")))]
    table = agreement_table(pairs)
    assert list(table["matched"]) == [1, 2, 0]


def test_a_disagreement_shows_what_the_other_marked_there():
    rows = disagreements([(note((0, 2, "positive")), note((0, 5, "positive")))])
    assert list(rows["the other has"]) == ["発熱と咳嗽 (positive)", "発熱 (positive)"]
    assert list(rows["what"]) == ["boundary", "boundary"] and rows["line"][0] == "発熱と咳嗽を認め、胸水なし"


def test_a_disagreement_on_certainty_alone_is_listed_as_one():
    rows = disagreements([(note((0, 2, "positive"), (3, 5, None)), note((0, 2, "general"), (3, 5, None)))])
    assert list(rows["what"]) == ["certainty", "certainty"] and list(rows["certainty"]) == ["positive", "general"]


def test_what_one_annotator_alone_marked_is_listed_once():
    rows = disagreements([(note((0, 2, "positive")), note())])
    assert rows[["what", "marked by", "the other has"]].to_numpy().tolist() == [["only one", "first", ""]]


# --- as the paper prints it, and by certainty ------------------------------------------------------------------------


def test_the_papers_print_divides_the_matches_by_each_possible_denominator():
    pairs = [
        (note((0, 2, "positive"), (3, 5, "positive")), note((0, 2, "positive"), (3, 6, "positive"), (9, 11, None)))
    ]
    printed = as_the_paper_prints_it(agreement_table(pairs)).loc["exact"]
    assert list(printed) == ["1/2 = 0.50", "1/3 = 0.33", "1/4 = 0.25"]


def test_an_entity_with_two_certainties_counts_against_both():
    pairs = [(note((0, 2, "positive"), (3, 5, "positive")), note((0, 2, "positive"), (3, 5, "general")))]
    table = table_by_certainty(pairs)
    assert table.loc["positive", ["entities of first", "entities of second", "matched"]].tolist() == [2, 1, 1]
    assert table.loc["general", ["entities of first", "entities of second", "matched"]].tolist() == [0, 1, 0]


def test_entities_of_all_certainties_add_up_to_the_row_with_the_same_certainty():
    pairs = [(note((0, 2, "positive"), (3, 5, None)), note((0, 2, "positive"), (3, 5, "general")))]
    columns = ["entities of first", "entities of second", "matched"]
    whole = agreement_table(pairs).loc["exact, same certainty", columns]
    assert table_by_certainty(pairs)[columns].sum().tolist() == whole.tolist()


def test_kappa_worked_out_by_hand():
    # 3 of 4 equal; chance: (3/4)(2/4) + (1/4)(2/4) = 1/2; (3/4 − 1/2) / (1 − 1/2) = 1/2
    certainties = np.array([["p", "p"], ["p", "p"], ["p", "n"], ["n", "n"]])
    assert kappa(certainties) == pytest.approx(0.5)


def test_kappa_of_a_single_certainty_is_not_defined():
    assert math.isnan(kappa(np.array([["p", "p"], ["p", "p"]])))


def test_only_entities_that_both_marked_have_certainties_to_compare():
    pairs = [(note((0, 2, "positive"), (3, 5, "negative")), note((0, 2, "general"), (9, 11, "positive")))]
    matched = matched_certainties(pairs)
    assert matched.to_numpy().tolist() == [["1", "発熱", "positive", "general"]]
    assert confusion(matched).loc["positive", "general"] == 1


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from("pqr")), min_size=1, max_size=30))
def test_kappa_of_counts_is_that_of_scikit_learn(pairs):
    values = np.array(pairs)
    labels = sorted(set(values.ravel()))
    counts = np.array([[sum(a == x and b == y for x, y in pairs) for b in labels] for a in labels])
    assert agreement._kappa(counts[None])[0] == pytest.approx(kappa(values), abs=1e-12, nan_ok=True)


def test_the_interval_of_kappa_draws_documents():
    each = [((0, 2, "positive"), (3, 5, first)) for first in ["negative"] * 6 + ["positive"] * 2]
    pairs = [(note(*spans, id=f"{k}"), note((0, 2, "positive"), (3, 5, "negative"), id=f"{k}"))
             for k, spans in enumerate(each)]  # fmt: skip
    row = certainty_table(pairs, n_boot=300).loc["Cohen's kappa"]
    assert row["95 % from"] < row["value"] < row["95 % to"] <= 1


# --- side by side ----------------------------------------------------------------------------------------------------


def test_only_lines_that_differ_are_shown_counted_from_their_start():
    pairs = [(note((0, 2, "positive"), (17, 20, "positive")), note((0, 2, "positive"), (17, 20, "suspicious")))]
    ((document, line, ours, theirs),) = lines_that_differ(pairs)
    assert (document, line) == ("1", "右下葉に浸潤影")
    assert [line[e.start : e.end] for e in (*ours, *theirs)] == ["に浸潤", "に浸潤"]


@pytest.mark.parametrize("name", ["CR", "PN"])
def test_both_bundled_annotators_marked_every_document(name):
    study = load_study(ROOT / "studies" / "demo.yaml")
    first, second = open_annotators(study, name)
    assert len(paired(first, second)) == len(paired(open_corpus(study, name), first)) == {"CR": 148, "PN": 100}[name]
