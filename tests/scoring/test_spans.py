"""Exact and partial scores against known values, independent judges and the properties every score must have."""

import warnings
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.corpus import Document, Entity, Prediction
from nbutils.scoring.spans import exact_scores, partial_scores, scores_by_label
from nbutils.taggers.bio import bio_labels, entities_to_bio

TEXT = "排液量が過多であった。" * 3
LABELS = ("d", "a")


@st.composite
def spans(draw):
    cuts = sorted(draw(st.sets(st.integers(0, len(TEXT)), max_size=12)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    return tuple(Entity(a, b, draw(st.sampled_from(LABELS))) for a, b in pairs)


def one(gold, predicted):
    return [Document("1", TEXT, tuple(gold))], [Prediction("1", tuple(predicted))]


def test_the_papers_example_gets_the_three_partial_scores_by_name():
    gold, predicted = one([Entity(0, 6)], [Entity(5, 6)])
    values = {mode: partial_scores(gold, predicted, mode) for mode in ("overlap", "half", "any")}
    assert (values["overlap"].precision, round(values["overlap"].recall, 2)) == (1, 0.17)
    assert (values["half"].precision, values["half"].recall) == (0.5, 0.5)
    assert (values["any"].precision, values["any"].recall) == (1, 1)


def test_nothing_to_find_and_nothing_found_is_perfect_and_one_empty_side_is_zero():
    nothing, found, missed = (exact_scores(*one(*s)) for s in (([], []), ([], [Entity(0, 1)]), ([Entity(0, 1)], [])))
    assert (nothing.precision, nothing.recall, nothing.f1) == (1, 1, 1)
    assert (found.precision, found.recall, found.f1) == (0, 0, 0) == (missed.precision, missed.recall, missed.f1)


def test_the_right_span_with_the_wrong_type_counts_twice_against():
    scores = exact_scores(*one([Entity(0, 2, "d")], [Entity(0, 2, "a")]))
    assert (scores.matched_gold, scores.n_gold, scores.n_predicted) == (0, 1, 1)


@given(st.lists(st.tuples(spans(), spans()), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_exact_scores_agree_with_seqeval_strict(pairs):
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    names, offsets = bio_labels(LABELS), [(k, k + 1) for k in range(len(TEXT))]
    rows = [[[names[n] for n in entities_to_bio(side, offsets, LABELS)] for side in pair] for pair in pairs]
    gold, predicted = [r[0] for r in rows], [r[1] for r in rows]
    documents = [Document(str(k), TEXT, g) for k, (g, _) in enumerate(pairs)]
    ours = exact_scores(documents, [Prediction(str(k), p) for k, (_, p) in enumerate(pairs)])
    if not ours.n_gold or not ours.n_predicted:
        return  # seqeval defines these cases otherwise; ours are tested by hand
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [m(gold, predicted, mode="strict", scheme=IOB2) for m in (precision_score, recall_score, f1_score)]
    assert [ours.precision, ours.recall, ours.f1] == pytest.approx(theirs)


@given(spans(), spans())
@settings(max_examples=60, deadline=None)
def test_exact_scores_agree_with_nervaluate(gold, predicted):
    from nervaluate.evaluator import Evaluator

    if not gold or not predicted:
        return

    def rows(side):  # nervaluate's ends are inclusive
        return [[{"label": e.label, "start": e.start, "end": e.end - 1} for e in side]]

    result = Evaluator(rows(gold), rows(predicted), tags=list(LABELS), loader="dict").evaluate()
    theirs = result["overall"]["strict"]
    ours = exact_scores(*one(gold, predicted))
    assert (ours.matched_gold, ours.f1) == (theirs.correct, pytest.approx(theirs.f1))


@given(spans(), spans(), st.sampled_from(["exact", "overlap", "half", "any"]))
@settings(max_examples=150, deadline=None)
def test_the_properties_every_score_must_have(gold, predicted, mode):
    def score(a, b):
        return exact_scores(*one(a, b)) if mode == "exact" else partial_scores(*one(a, b), mode)

    scores, swapped = score(gold, predicted), score(predicted, gold)
    assert all(0 <= x <= 1 for x in (scores.precision, scores.recall, scores.f1))
    assert (scores.precision, scores.recall) == pytest.approx((swapped.recall, swapped.precision))
    assert score(gold[::-1], predicted[::-1]) == scores
    assert score(gold, gold).f1 == 1
    assert scores.f1 >= exact_scores(*one(gold, predicted)).f1 - 1e-12
    by_label = [score(*([e for e in side if e.label == label] for side in (gold, predicted))) for label in LABELS]
    assert sum(s.n_gold for s in by_label) == scores.n_gold
    assert sum(s.matched_gold for s in by_label) == pytest.approx(scores.matched_gold)


def test_predictions_that_do_not_belong_to_the_documents_are_refused():
    gold, predicted = one([], [])
    for wrong, sentence in (
        ([], "no prediction"),
        (predicted * 2, "predicted twice"),
        ([*predicted, replace(predicted[0], document_id="2")], "no gold document"),
    ):
        with pytest.raises(ValueError, match=sentence):
            exact_scores(gold, wrong)


def nervaluate_rows(side):
    return [[{"label": e.label, "start": e.start, "end": e.end - 1} for e in side]]  # its ends are inclusive


@given(spans(), spans())
@settings(max_examples=60, deadline=None)
def test_half_credit_agrees_with_nervaluates_partial_where_its_greedy_pairing_has_no_choice(gold, predicted):
    from nervaluate.evaluator import Evaluator

    gold, predicted = ([replace(e, label="d") for e in side] for side in (gold, predicted))
    touching = [[a.start < b.end and b.start < a.end for b in predicted] for a in gold]
    one_to_one = all(sum(row) <= 1 for row in touching) and all(
        sum(column) <= 1 for column in zip(*touching, strict=True)
    )
    if not gold or not predicted or not one_to_one:
        return
    theirs = Evaluator(nervaluate_rows(gold), nervaluate_rows(predicted), tags=["d"], loader="dict").evaluate()
    ours = partial_scores(*one(gold, predicted), "half")
    assert ours.f1 == pytest.approx(theirs["overall"]["partial"].f1)


@given(spans(), spans())
@settings(max_examples=40, deadline=None)
def test_scores_of_each_type_agree_with_nervaluates(gold, predicted):
    from nervaluate.evaluator import Evaluator

    ours = scores_by_label(*one(gold, predicted))
    labels = [name for name, s in ours.items() if s.n_gold and s.n_predicted]
    if not gold or not predicted or not labels:
        return
    result = Evaluator(nervaluate_rows(gold), nervaluate_rows(predicted), tags=list(LABELS), loader="dict").evaluate()
    theirs = {label: result["entities"][label]["strict"] for label in labels}
    assert all(ours[label].matched_gold == theirs[label].correct for label in labels)
    assert all(ours[label].n_gold == theirs[label].possible for label in labels)
