"""Two annotators on the same notes: what counts as agreement, and how."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.agreement import Agreement, agreement_table, bootstrap_f1, disagreements, exact, paired, partial
from nbutils.corpus import Corpus, Document, Entity

NOTE = "発熱と咳嗽を認め、胸水なし\n右下葉に浸潤影"


def note(*spans, id="1"):
    return Document(id, NOTE, tuple(Entity(s, e, certainty=c) for s, e, c in spans))


@st.composite
def spans(draw):
    cuts = sorted(draw(st.sets(st.integers(0, 30), max_size=10)))
    return [Entity(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


def test_the_papers_ratio_is_matches_over_all_that_either_marked():
    agreement = Agreement(n_first=74, n_second=74, matched=61)
    assert agreement.jaccard == pytest.approx(61 / 87)


def test_an_entity_with_other_borders_matches_partly_but_not_exactly():
    first, second = [Entity(0, 2)], [Entity(0, 3)]
    assert exact(first, second).matched == 0 and partial(first, second).matched == 1


def test_two_entities_inside_one_of_the_other_annotator_match_once():
    assert partial([Entity(0, 5)], [Entity(0, 2), Entity(3, 5)]).matched == 1


def test_the_same_span_with_another_certainty_disagrees_only_when_asked():
    first, second = [Entity(0, 2, certainty="positive")], [Entity(0, 2, certainty="general")]
    assert exact(first, second).matched == 1 and exact(first, second, certainty=True).matched == 0


@given(spans(), spans())
@settings(max_examples=100, deadline=None)
def test_partial_matching_is_a_largest_one_to_one_matching(first, second):
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    assert linear_sum_assignment is not None
    touches = [[int(a.start < b.end and b.start < a.end) for b in second] for a in first]
    best = 0
    if first and second:
        best = int((maximum_bipartite_matching(csr_matrix(touches), perm_type="column") >= 0).sum())
    assert partial(first, second).matched == best


@given(spans(), spans())
@settings(max_examples=50, deadline=None)
def test_f1_does_not_care_who_is_first(first, second):
    assert exact(first, second).f1 == exact(second, first).f1


def test_without_any_entity_the_shares_are_undefined_and_f1_is_one():
    nothing = exact([], [])
    assert nothing.f1 == nothing.jaccard == 1 and math.isnan(nothing.recall_of_first)


def test_documents_with_another_text_cannot_be_compared():
    with pytest.raises(ValueError, match="same text"):
        paired(Corpus("a", (note(),)), Corpus("b", (Document("1", NOTE + "。"),)))


def test_the_interval_of_identical_annotations_is_a_point():
    assert bootstrap_f1([Agreement(3, 3, 3), Agreement(5, 5, 5)]) == (1.0, 1.0)


def test_the_interval_holds_the_estimate_and_widens_with_disagreement():
    each = [Agreement(10, 10, k) for k in range(10)]
    low, high = bootstrap_f1(each)
    assert low < sum(each, Agreement(0, 0, 0)).f1 < high


def test_the_table_counts_each_way_of_matching():
    pairs = [(note((0, 2, "positive"), (3, 5, "positive")), note((0, 2, "general"), (3, 6, "positive")))]
    table = agreement_table(pairs, n_boot=10)
    assert list(table["matched"]) == [1, 2, 0]


def test_a_disagreement_shows_what_the_other_marked_there():
    rows = disagreements([(note((0, 2, "positive")), note((0, 5, "positive")))])
    assert list(rows["the other has"]) == ["発熱と咳嗽", "発熱"] and rows["line"][0].startswith("発熱と")
