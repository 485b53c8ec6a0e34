"""How certain a score is: intervals that cover, other notes and other trainings, tests that keep their level."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import kstest

from nbutils.corpus import Document, Entity, Prediction
from nbutils.scoring import resampling
from nbutils.scoring.evaluation import Evaluation, document_counts, f1_of, groups, micro_f1
from nbutils.scoring.intervals import contrast, f1_interval
from nbutils.scoring.permutation import holm, permutation_test
from nbutils.scoring.spans import exact_scores
from tools.interval_coverage import (
    NULLS,
    SCENARIOS,
    TRAININGS,
    bare_notes,
    covered,
    crossed,
    grouped_notes,
    level,
    population_f1,
    simulated,
)
from tools.interval_coverage import crossed_notes as crossed_grid

counts = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8
).map(lambda rows: np.array([[(m, m + p, m + g) for m, p, g in rows]], dtype=float))  # fmt: skip


# --- counts and F1 ---------------------------------------------------------------------------------------------------


def spans(cuts):
    cuts = sorted(cuts)
    return tuple(Entity(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False))


@given(st.lists(st.tuples(st.sets(st.integers(0, 12)), st.sets(st.integers(0, 12))), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_counts_by_document_add_up_to_the_score_of_the_corpus(pairs):
    gold = [Document(str(k), "x" * 20, spans(g)) for k, (g, _) in enumerate(pairs)]
    predicted = [Prediction(str(k), spans(p)) for k, (_, p) in enumerate(pairs)]
    each = document_counts(gold, predicted)
    assert micro_f1(each[None]) == pytest.approx(exact_scores(gold, predicted).f1)


def test_f1_is_averaged_over_seeds_and_not_pooled():
    seeds = np.array([[[1, 1, 1], [1, 1, 1]], [[0, 98, 1], [0, 0, 1]]], dtype=float)
    assert micro_f1(seeds) == 0.5


def test_f1_without_any_entity_is_one_and_with_one_side_empty_zero():
    assert f1_of(np.array([[0, 0, 0], [0, 3, 0], [0, 0, 3]])).tolist() == [1, 0, 0]


def test_an_evaluation_on_some_documents_keeps_their_counts_in_the_order_asked():
    evaluation = Evaluation(bare_notes(3), np.arange(9.0).reshape(1, 3, 3))
    assert evaluation.on([evaluation.documents[2], evaluation.documents[0]]).counts[0, :, 0].tolist() == [6, 0]


# --- groups of notes -------------------------------------------------------------------------------------------------


def notes_of(*metas):
    return tuple(Document(str(k), "", meta=meta) for k, meta in enumerate(metas))


@pytest.mark.parametrize("key", ["patient", "hospital", "physician", "ward", "case"])
def test_notes_are_grouped_by_whatever_they_name(key):
    assert list(groups(notes_of({key: "a"}, {key: "a"}, {key: "b"}))) == [key]


def test_notes_of_one_physician_alone_or_each_by_another_stand_alone():
    assert not groups(notes_of({"physician": "a"}, {"physician": "a"}))
    assert not groups(notes_of({"physician": "a"}, {"physician": "b"}))


def test_physicians_within_hospitals_add_nothing_to_the_hospitals():
    metas = [{"hospital": h, "physician": f"{h}{p}"} for h in "ABC" for p in range(3) for _ in range(2)]
    assert list(groups(notes_of(*metas))) == ["hospital"]


def test_crossed_physicians_and_cases_are_both_kept():
    assert list(groups(crossed_grid(3, 4))) == ["physician", "case"]


def test_a_note_without_a_physician_is_a_group_of_its_own():
    codes = groups(notes_of({"physician": "a"}, {"physician": "a"}, {}, {}))["physician"]
    assert len(set(codes)) == 3


def test_the_study_may_name_any_other_key():
    documents = notes_of({"nurse": "a", "case": "x"}, {"nurse": "a", "case": "x"}, {"nurse": "b", "case": "y"})
    assert list(groups(documents, ["nurse"])) == ["nurse"]


# --- bootstrap -------------------------------------------------------------------------------------------------------


@given(counts)
@settings(max_examples=40, deadline=None)
def test_a_replicate_is_the_score_of_the_documents_that_were_drawn(counts):
    weights = resampling.draw(bare_notes(counts.shape[1]), n_boot=20)
    for row, replicate in zip(weights, resampling.weighted_f1(counts, weights), strict=True):
        drawn = [counts[0, k] for k, times in enumerate(row) for _ in range(times)]
        assert len(drawn) == counts.shape[1] and replicate == pytest.approx(float(f1_of(np.sum(drawn, axis=0))))


def test_two_way_drawing_draws_whole_physicians_and_whole_cases():
    weights = resampling.draw(crossed_grid(4, 3), n_boot=50).reshape(50, 4, 3)
    physicians, cases = weights.sum(axis=2) // 3, weights.sum(axis=1) // 4
    assert (weights == physicians[:, :, None] * cases[:, None, :]).all() and (weights.sum(axis=(1, 2)) == 12).all()


def test_two_way_drawing_never_draws_nothing_from_a_thin_grid():
    thin = [d for d in crossed_grid(3, 3) if d.id in {"0-0", "1-1", "2-2", "0-1"}]
    assert (resampling.draw(thin, n_boot=500).sum(axis=1) > 0).all()


def test_two_systems_on_the_same_notes_are_drawn_alike():
    each = simulated(np.random.default_rng(0), np.zeros((1, 30)))
    one, other = (resampling.bootstrap(Evaluation(bare_notes(30), c)) for c in (each, each - [1, 0, 0]))
    assert (one - other).std() < 0.3 * one.std()


def test_the_t_interval_of_many_documents_is_the_bootstraps():
    evaluation = Evaluation(bare_notes(100), simulated(np.random.default_rng(0), np.zeros((1, 100))))
    drawn = np.quantile(resampling.bootstrap(evaluation), [0.025, 0.975])
    assert f1_interval(evaluation) == pytest.approx(drawn, abs=0.3)


def test_the_t_interval_is_near_the_bca_interval_of_scipy():
    counts = simulated(np.random.default_rng(2), np.random.default_rng(2).normal(0, 0.7, (1, 60)))

    def f1(matched, predicted, gold, axis=-1):
        return 200 * matched.sum(axis) / (predicted + gold).sum(axis)

    judge = stats.bootstrap(tuple(counts[0].T), f1, paired=True, vectorized=True, n_resamples=4000, rng=0)
    assert f1_interval(Evaluation(bare_notes(60), counts)) == pytest.approx(tuple(judge.confidence_interval), abs=0.5)


# --- standard errors -------------------------------------------------------------------------------------------------


def test_the_standard_error_of_a_mean_over_documents_is_the_textbooks():
    matched = np.arange(10.0)  # every note predicts and has ten entities, so F1 is a plain mean of matched / 10
    evaluation = Evaluation(bare_notes(10), np.stack([matched, np.full(10, 10), np.full(10, 10)], axis=-1)[None])
    error, freedom = contrast([(1, evaluation)]).error()
    assert (error, freedom) == (pytest.approx(100 * np.std(matched / 10, ddof=1) / math.sqrt(10)), 9)


def f1_of_cells(cells):
    """Crossed notes of ten entities each whose F1 (in points) is the cell's."""
    n = np.full(cells.size, 10.0)
    return Evaluation(crossed_grid(*cells.shape), np.stack([cells.ravel() / 10, n, n], axis=-1)[None])


def test_when_only_physicians_differ_the_error_is_that_of_their_means():
    means = np.array([20.0, 50, 60, 90])
    error, freedom = contrast([(1, f1_of_cells(np.repeat(means[:, None], 5, axis=1)))]).error()
    assert (error, freedom) == (pytest.approx(np.std(means, ddof=1) / 2), 3)


def test_of_cases_and_physicians_the_variances_add_less_that_of_single_notes():
    cells = np.add.outer([20.0, 40, 60], [0.0, 10, 30])
    u = (cells - cells.mean()).ravel()
    physicians, cases = (np.var(cells.mean(axis=axis), ddof=1) / 3 for axis in (1, 0))
    notes = 9 / 8 * np.sum((u / 9) ** 2)
    assert contrast([(1, f1_of_cells(cells))]).error()[0] == pytest.approx(math.sqrt(physicians + cases - notes))


def test_statsmodels_has_the_same_standard_error_for_equal_groups():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(0)
    documents = grouped_notes([6] * 8)
    f1 = 40 + np.repeat(rng.normal(0, 10, 8), 6) + rng.normal(0, 5, 48)
    n = np.full(48, 10.0)
    ours = contrast([(1, Evaluation(documents, np.stack([f1 / 10, n, n], axis=-1)[None]))]).error()[0]
    codes = np.repeat(np.arange(8), 6)
    judge = sm.OLS(f1, np.ones(48)).fit(cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False})
    assert ours == pytest.approx(float(judge.bse[0]) * math.sqrt(8 / 7))


def test_the_error_of_a_difference_on_the_same_notes_is_that_of_the_paired_differences():
    rng = np.random.default_rng(0)
    evaluation = Evaluation(bare_notes(30), simulated(rng, rng.normal(0, 1, (1, 30))))
    same = contrast([(1, evaluation), (-1, evaluation)])
    assert same.value == 0 and math.isnan(same.error()[0])  # nothing varies: no interval, no p


def test_the_errors_of_independent_notes_add_in_squares():
    rng = np.random.default_rng(0)
    one, other = (Evaluation(bare_notes(30, prefix), simulated(rng, np.zeros((1, 30)))) for prefix in "ab")
    alone = [contrast([(1, e)]).error()[0] for e in (one, other)]
    assert contrast([(1, one), (-1, other)]).error()[0] == pytest.approx(math.hypot(*alone))


# --- edges and scales ------------------------------------------------------------------------------------------------


def test_a_perfect_score_has_a_lower_bound_and_is_no_point():
    low, high = f1_interval(Evaluation(bare_notes(15), np.ones((1, 15, 3))))
    assert high == 100 and low == pytest.approx(100 * 0.025 ** (1 / 15))  # Clopper and Pearson's, 15 of 15


def test_a_score_of_zero_has_an_upper_bound_by_groups():
    nothing = np.tile([0.0, 1, 1], (1, 20, 1))
    assert (
        f1_interval(Evaluation(bare_notes(20), nothing))[1]
        < f1_interval(Evaluation(grouped_notes([5] * 4), nothing))[1]
    )


def test_nothing_to_find_and_nothing_found_is_no_score():
    empty = Evaluation(bare_notes(5), np.zeros((1, 5, 3)))
    assert math.isnan(empty.f1) and all(math.isnan(end) for end in f1_interval(empty))


def test_an_interval_of_f1_stays_between_0_and_100():
    rare = np.zeros((1, 12, 3))
    rare[..., 1:] = 3
    rare[0, 0] = 3
    low, high = f1_interval(Evaluation(bare_notes(12), rare))
    assert 0 <= low <= high <= 100


def test_the_scales_compare_by_difference_by_ratio_and_by_odds():
    n = np.full((1, 4, 1), 10.0)
    eighty, forty = (
        Evaluation(bare_notes(4, p), np.concatenate([n * f + [[[1], [-1], [1], [-1]]], n, n], axis=-1))
        for p, f in (("a", 0.8), ("b", 0.4))
    )
    values = [contrast([(1, forty), (-1, eighty)], scale).value for scale in ("points", "share kept", "odds")]
    assert values == pytest.approx([-40, 0.5, (0.4 / 0.6) / (0.8 / 0.2)])


def test_p_is_below_5_percent_exactly_where_the_interval_excludes_zero():
    for k in range(40):
        rng = np.random.default_rng(k)
        pair = [Evaluation(bare_notes(20), simulated(rng, rng.normal(m, 1, (1, 20)))) for m in (0, 0.4)]
        e = contrast([(1, pair[0]), (-1, pair[1])])
        assert (e.p() < 0.05) == (e.interval()[0] > 0 or e.interval()[1] < 0)


def test_equivalence_is_where_both_one_sided_tests_reject():
    rng = np.random.default_rng(0)
    pair = [Evaluation(bare_notes(60), simulated(rng, np.zeros((1, 60)))) for _ in range(2)]
    e = contrast([(1, pair[0]), (-1, pair[1])])
    (error, freedom), t = e.error(), stats.t
    low, high = e.theta - t.ppf(0.95, freedom) * error, e.theta + t.ppf(0.95, freedom) * error
    assert e.p_within(max(-low, high)) == pytest.approx(0.05)


# --- other trainings -------------------------------------------------------------------------------------------------


def trained(f1_of_seeds, name="a", prefix="n"):
    n = np.full((len(f1_of_seeds), 10, 1), 100.0)
    matched = np.array(f1_of_seeds, dtype=float)[:, None, None] + np.zeros_like(n)
    matched[:, ::2] += 5
    matched[:, 1::2] -= 5
    return Evaluation(bare_notes(10, prefix), np.concatenate([matched, n, n], axis=-1), name)


def test_the_trainings_of_a_score_lie_inside_the_interval_of_other_trainings():
    pn_to_cr = trained([43.6, 43.3, 37.9])
    own, wider = f1_interval(pn_to_cr), f1_interval(pn_to_cr, trainings=True)
    assert wider[0] < 37.9 < 43.6 < wider[1] and own[0] > wider[0] and own[1] < wider[1]


def test_the_variance_of_trainings_is_s_squared_over_k():
    e = contrast([(1, trained([40, 42, 47]))])
    assert e.trainings == ((pytest.approx(np.var([40, 42, 47], ddof=1) / 3), 2.0),)


def test_the_luck_of_a_training_cancels_in_its_own_gap():
    gap = contrast([(1, trained([50, 54, 58])), (-1, trained([70, 74, 78], prefix="in"))])
    assert gap.trainings[0][0] == pytest.approx(0)


def test_two_systems_have_two_trainings():
    assert len(contrast([(1, trained([50, 54, 58])), (-1, trained([40, 41, 42], "b"))]).trainings) == 2


def test_one_run_says_nothing_of_other_trainings():
    assert all(math.isnan(end) for end in f1_interval(trained([50]), trainings=True))


def test_no_interval_of_a_gap_holds_what_no_gap_can_be():
    """Two authors who differ much: one degree of freedom, and a t interval beyond 100 points."""
    authors = tuple(Document(f"n{k}", "", meta={"physician": f"p{k % 2}"}) for k in range(8))
    counts = np.array([[[95 - 90 * (k % 2), 100, 100] for k in range(8)]], dtype=float)
    e = contrast([(1, Evaluation(authors, counts)), (-1, trained([80], prefix="in"))])
    assert e.interval() == (-100, 100) and e.value == pytest.approx(-30) and e.p() > 0.05


def test_a_deterministic_training_adds_nothing_to_what_notes_vary():
    crf, bert = replace(trained([50], "crf"), deterministic=True), trained([40, 42, 47], "bert")
    assert f1_interval(crf, trainings=True) == f1_interval(crf)
    gap = contrast([(1, crf), (-1, replace(trained([70], "crf", "in"), deterministic=True))])
    assert gap.interval(trainings=True) == gap.interval() and gap.p(trainings=True) == gap.p()
    assert contrast([(1, crf), (-1, bert)]).trainings == contrast([(-1, bert)]).trainings
    assert contrast([(1, crf), (-1, trained([40], "once"))]).trainings is None
    nothing = Evaluation(bare_notes(10), np.tile([0.0, 1.0, 1.0], (1, 10, 1)), deterministic=True)
    assert f1_interval(nothing, trainings=True) == f1_interval(nothing)


# --- coverage and level ----------------------------------------------------------------------------------------------


# 500 corpora: the standard error of a coverage of 95 % is 1 %. `python -m tools.interval_coverage` tries more.
@pytest.mark.parametrize(
    "name",
    [
        "F1, 30 notes",
        "F1, 10 × 10, both differ",
        "F1, 10 × 10, both differ, notes more",
        "F1, 5 physicians × 20 to 20 notes, they differ",
        "F1, 3 physicians × 5 to 30 notes, they differ",
        "Δ, 30 notes and 10 × 10",
        "difference of two Δ, 30 and 100 notes",
    ],
)
def test_intervals_contain_the_truth_in_95_of_100_corpora(name):
    assert covered(*SCENARIOS[name], 500, seed=7)[0] == pytest.approx(0.95, abs=0.025)


def test_intervals_over_other_trainings_contain_it_where_those_of_these_models_do_not():
    truth, draw = TRAININGS["F1, 3 trainings, SD 2.5"]
    own, wider = (covered(truth, draw, 400, seed=7, trainings=t)[0] for t in (False, True))
    assert own < 0.8 and wider == pytest.approx(0.95, abs=0.025)


def test_notes_whose_author_is_forgotten_give_intervals_that_are_far_too_narrow():
    def forgetful(rng):
        return [(1, Evaluation(bare_notes(100), crossed(rng, (0.5, 0.5, 0.3), 0.7).counts))]

    assert covered(population_f1(0.7, math.hypot(0.5, 0.5, 0.3)), forgetful, 200)[0] < 0.75


@pytest.mark.parametrize("name", [name for name in NULLS if not name.startswith("(")])
def test_tests_reject_what_is_not_there_in_5_of_100_corpora_at_most(name):
    assert 0.01 < level(NULLS[name], 400, seed=8) <= 0.08  # the standard error of 5 % is 1.1 %


def test_swapping_single_notes_rejects_far_too_often_where_systems_have_physicians_of_their_own():
    name = next(name for name in NULLS if name.startswith("("))
    assert level(NULLS[name], 150, seed=7) > 0.12


# --- permutation and Holm --------------------------------------------------------------------------------------------


def pair_of_systems(rng, n, shift=0.0):
    ease = rng.normal(0, 0.7, (1, n))
    return simulated(rng, ease + shift), simulated(rng, ease)


def test_the_permutation_p_is_the_share_of_all_swaps_that_part_the_systems_as_far():
    first, second = pair_of_systems(np.random.default_rng(3), 9, 0.4)
    observed = abs(micro_f1(first) - micro_f1(second))
    as_far = 0
    for swap in product([False, True], repeat=9):
        a = np.where(np.array(swap)[None, :, None], second, first)
        b = np.where(np.array(swap)[None, :, None], first, second)
        as_far += abs(micro_f1(a) - micro_f1(b)) >= observed - 1e-12
    assert permutation_test(first, second)[1] == as_far / 2**9


def test_a_sample_of_the_swaps_comes_near_the_share_of_all_of_them(monkeypatch):
    first, second = pair_of_systems(np.random.default_rng(4), 12, 0.3)
    exact = permutation_test(first, second)[1]
    monkeypatch.setattr("nbutils.scoring.permutation.N_EXACT", 0)
    assert permutation_test(first, second, n_permutations=20_000)[1] == pytest.approx(exact, abs=0.015)


def test_permutation_p_values_are_uniform_when_the_systems_do_not_differ():
    rng = np.random.default_rng(0)
    p = [permutation_test(*pair_of_systems(rng, 40), n_permutations=199, seed=k)[1] for k in range(600)]
    assert kstest(p, "uniform").pvalue > 0.01 and np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.02)


def test_a_clear_difference_gets_the_smallest_p_that_the_swaps_allow():
    first, second = pair_of_systems(np.random.default_rng(0), 100, 2.0)
    difference, p = permutation_test(first, second, n_permutations=999)
    assert difference > 0 and p == 1 / 1000


def test_naming_the_systems_the_other_way_round_turns_the_difference_and_keeps_p():
    first, second = pair_of_systems(np.random.default_rng(1), 30, 0.1)
    (d, p), (d_back, p_back) = permutation_test(first, second), permutation_test(second, first)
    assert d == -d_back and p == p_back


def test_a_system_against_itself_has_p_one():
    first, _ = pair_of_systems(np.random.default_rng(0), 20)
    assert permutation_test(first, first) == (0, 1)


def test_a_system_with_one_seed_can_be_compared_with_one_that_has_three():
    rng = np.random.default_rng(0)
    three, one = simulated(rng, np.zeros((3, 20))), simulated(rng, np.zeros((1, 20)))
    assert permutation_test(three, one)[0] == pytest.approx(micro_f1(three) - micro_f1(one))


def test_holm_against_values_worked_out_by_hand():
    # in order: .005 × 4 = .02, .01 × 3 = .03, .03 × 2 = .06, .04 × 1 = .04, lifted to .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_holm_lies_between_the_raw_p_and_bonferroni_and_keeps_the_order(p):
    raw, adjusted = np.array(p), holm(p)
    assert (adjusted >= raw).all() and (adjusted <= np.minimum(1, raw * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()


def test_swapping_whole_groups_tries_all_their_swaps():
    first, second = pair_of_systems(np.random.default_rng(0), 40, 2.0)
    assert permutation_test(first, second, groups=np.repeat(np.arange(8), 5))[1] == 2 / 2**8


def test_scipy_finds_the_same_p_for_swapped_groups():
    first, second = pair_of_systems(np.random.default_rng(5), 40, 0.15)
    sums = np.concatenate([c.reshape(1, 8, 5, 3).sum(axis=2) for c in (first, second)], axis=1)
    judge = stats.permutation_test(
        (np.arange(8.0), np.arange(8.0, 16)),
        lambda a, b: micro_f1(sums[:, a.astype(int)]) - micro_f1(sums[:, b.astype(int)]),
        permutation_type="samples", vectorized=False,
    )  # fmt: skip
    assert permutation_test(first, second, groups=np.repeat(np.arange(8), 5))[1] == pytest.approx(judge.pvalue)


def test_a_test_without_a_p_is_none_of_the_family():
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)


def test_statsmodels_corrects_alike():
    multi = pytest.importorskip("statsmodels.stats.multitest")
    p = [0.001, 0.04, 0.03, 0.5]
    assert holm(p) == pytest.approx(multi.multipletests(p, method="holm")[1])
