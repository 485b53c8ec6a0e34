"""How sure a score is: intervals that cover, tests that do not cry wolf, differences with the right sign."""

import math
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from nbutils.analysis import significance as stats
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.scoring import resampling
from nbutils.scoring.evaluation import Evaluation
from nbutils.scoring.intervals import f1_interval, f1_of, micro_f1, standard_error
from nbutils.scoring.permutation import holm, permutation_test
from nbutils.scoring.spans import exact_scores
from nbutils.study import runs
from nbutils.study.corpora import evaluation_corpus, split
from nbutils.study.file import Study, System
from nbutils.study.results import Results
from tools.interval_coverage import SCENARIOS, bare_notes, covered, crossed, population_f1, simulated
from tools.interval_coverage import crossed_notes as crossed_grid

SYSTEMS = {name: System(name, "crf", (0,), {}, name.upper()) for name in ("old", "new")}
STUDY = Study("s", {}, SYSTEMS, train=("CR", "PN"), evaluate=("CR", "PN"))


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
    each = resampling.document_counts(gold, predicted)
    assert micro_f1(each[None]) == pytest.approx(exact_scores(gold, predicted).f1)


def test_f1_is_averaged_over_seeds_and_not_pooled():
    seeds = np.array([[[1, 1, 1], [1, 1, 1]], [[0, 98, 1], [0, 0, 1]]], dtype=float)
    assert micro_f1(seeds) == 0.5


def test_f1_without_any_entity_is_one_and_with_one_side_empty_zero():
    assert f1_of(np.array([[0, 0, 0], [0, 3, 0], [0, 0, 3]])).tolist() == [1, 0, 0]


def test_an_evaluation_on_some_documents_keeps_their_counts_in_the_order_asked():
    evaluation = Evaluation(bare_notes(3), np.arange(9.0).reshape(1, 3, 3))
    assert evaluation.on([evaluation.documents[2], evaluation.documents[0]]).counts[0, :, 0].tolist() == [6, 0]


# --- bootstrap -------------------------------------------------------------------------------------------------------


@given(counts)
@settings(max_examples=40, deadline=None)
def test_a_replicate_is_the_score_of_the_documents_that_were_drawn(counts):
    weights = resampling.draw_documents(counts.shape[1], 20, np.random.default_rng(0))
    for row, replicate in zip(weights, resampling.weighted_f1(counts, weights), strict=True):
        drawn = [counts[0, k] for k, times in enumerate(row) for _ in range(times)]
        assert len(drawn) == counts.shape[1] and replicate == pytest.approx(float(f1_of(np.sum(drawn, axis=0))))


def test_two_way_drawing_draws_whole_physicians_and_whole_cases():
    weights = resampling.draw_two_way(crossed_grid(4, 3), 50, np.random.default_rng(0)).reshape(50, 4, 3)
    physicians, cases = weights.sum(axis=2) // 3, weights.sum(axis=1) // 4
    assert (weights == physicians[:, :, None] * cases[:, None, :]).all() and (weights.sum(axis=(1, 2)) == 12).all()


def test_two_way_drawing_never_draws_nothing_from_a_thin_grid():
    diagonal = [d for d in crossed_grid(3, 3) if d.id in {"0-0", "1-1", "2-2"}]
    assert (resampling.draw_two_way(diagonal, 500, np.random.default_rng(0)).sum(axis=1) > 0).all()


def test_notes_without_a_physician_or_by_one_alone_are_drawn_one_by_one():
    assert resampling.is_crossed(crossed_grid(2, 2))
    assert not any(resampling.is_crossed(notes) for notes in (bare_notes(4), crossed_grid(1, 4)))


def test_two_systems_on_the_same_notes_are_drawn_alike():
    each = simulated(np.random.default_rng(0), np.zeros((1, 30)))
    worse = each - [1, 0, 0]
    difference = resampling.bootstrap(Evaluation(bare_notes(30), each)) - resampling.bootstrap(
        Evaluation(bare_notes(30), worse)
    )
    assert difference.std() < 0.3 * resampling.bootstrap(Evaluation(bare_notes(30), each)).std()


def test_other_notes_are_drawn_independently():
    each = simulated(np.random.default_rng(0), np.zeros((1, 30)))
    one, other = (resampling.bootstrap(Evaluation(bare_notes(30, prefix), each)) for prefix in "ab")
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_a_thousand_replicates_of_a_hundred_notes_take_less_than_two_seconds():
    evaluation = Evaluation(crossed_grid(), simulated(np.random.default_rng(0), np.zeros((3, 100))))
    begin = time.perf_counter()
    resampling.bootstrap(evaluation, n_boot=1000)
    assert time.perf_counter() - begin < 2


def test_the_interval_of_a_hundred_documents_is_nearly_the_plain_percentile_interval():
    evaluation = Evaluation(bare_notes(100), simulated(np.random.default_rng(0), np.zeros((1, 100))))
    _, low, high = f1_interval([(1, evaluation)], n_boot=4000)
    assert (low, high) == pytest.approx(
        np.quantile(resampling.bootstrap(evaluation, n_boot=4000), [0.025, 0.975]), abs=0.2
    )


# --- standard errors -------------------------------------------------------------------------------------------------


def test_the_standard_error_of_a_mean_over_documents_is_the_textbooks():
    matched = np.arange(10.0)  # every note predicts and holds ten entities, so F1 is a plain mean of matched / 10
    evaluation = Evaluation(bare_notes(10), np.stack([matched, np.full(10, 10), np.full(10, 10)], axis=-1)[None])
    error, freedom = standard_error([(1, evaluation)])
    assert (error, freedom) == (pytest.approx(100 * np.std(matched / 10, ddof=1) / math.sqrt(10)), 9)


def f1_of_cells(cells):
    """Crossed notes of ten entities each whose F1 (in points) is the cell's."""
    n = np.full(cells.size, 10.0)
    return Evaluation(crossed_grid(*cells.shape), np.stack([cells.ravel() / 10, n, n], axis=-1)[None])


def test_when_only_physicians_differ_the_error_is_that_of_their_means():
    means = np.array([20.0, 50, 60, 90])
    error, freedom = standard_error([(1, f1_of_cells(np.repeat(means[:, None], 5, axis=1)))])
    assert (error, freedom) == (pytest.approx(np.std(means, ddof=1) / 2), 3)


def test_of_cases_and_physicians_the_variances_add_less_that_of_single_notes():
    cells = np.add.outer([20.0, 40, 60], [0.0, 10, 30])
    u = (cells - cells.mean()).ravel()
    physicians, cases = (np.var(cells.mean(axis=axis), ddof=1) / 3 for axis in (1, 0))
    notes = 9 / 8 * np.sum((u / 9) ** 2)
    assert standard_error([(1, f1_of_cells(cells))])[0] == pytest.approx(math.sqrt(physicians + cases - notes))


def test_the_error_of_a_difference_on_the_same_notes_is_that_of_the_paired_differences():
    rng = np.random.default_rng(0)
    evaluation = Evaluation(bare_notes(30), simulated(rng, rng.normal(0, 1, (1, 30))))
    assert standard_error([(1, evaluation), (-1, evaluation)])[0] == 0


def test_the_errors_of_independent_notes_add_in_squares():
    rng = np.random.default_rng(0)
    one, other = (Evaluation(bare_notes(30, prefix), simulated(rng, np.zeros((1, 30)))) for prefix in "ab")
    alone = [standard_error([(1, e)])[0] for e in (one, other)]
    assert standard_error([(1, one), (-1, other)])[0] == pytest.approx(math.hypot(*alone))


def test_the_bootstrap_of_notes_one_by_one_has_the_spread_that_the_standard_error_says():
    evaluation = Evaluation(bare_notes(80), simulated(np.random.default_rng(1), np.zeros((2, 80))))
    spread = resampling.bootstrap(evaluation, n_boot=4000).std() * math.sqrt(80 / 79)
    assert standard_error([(1, evaluation)])[0] == pytest.approx(spread, rel=0.05)


def test_an_interval_without_any_spread_is_a_point():
    perfect = Evaluation(bare_notes(5), np.ones((1, 5, 3)))
    assert f1_interval([(1, perfect)]) == (100, 100, 100)


def test_an_interval_of_f1_stays_between_0_and_100():
    rare = np.zeros((1, 12, 3))
    rare[..., 1:] = 3
    rare[0, 0] = 3
    _, low, high = f1_interval([(1, Evaluation(bare_notes(12), rare))])
    assert 0 <= low <= high <= 100


# --- coverage --------------------------------------------------------------------------------------------------------


# 500 corpora: the standard error of a coverage of 95 % is 1 %. `python -m tools.interval_coverage` tries more, and longer.
@pytest.mark.parametrize(
    "name",
    [
        "F1, 30 notes",
        "F1, 10 × 10, both differ",
        "F1, 10 × 10, both differ, notes more",
        "Δ, 30 notes and 10 × 10",
        "difference of two Δ, 30 and 100 notes",
        "difference of two systems, 10 × 10",
    ],
)
def test_intervals_hold_the_truth_in_95_of_100_corpora(name):
    assert covered(*SCENARIOS[name], 500, seed=7)[0] == pytest.approx(0.95, abs=0.02)


def test_drawing_notes_one_by_one_would_be_far_too_sure_of_crossed_notes():
    def forgetful(rng):  # the same notes, their hands and cases forgotten
        return [(1, Evaluation(bare_notes(100), crossed(rng, (0.5, 0.5, 0.3), 0.7).counts))]

    assert covered(population_f1(0.7, math.hypot(0.5, 0.5, 0.3)), forgetful, 200)[0] < 0.75


def test_plain_two_way_percentiles_would_be_far_too_wide_when_hands_and_cases_are_alike():
    truth, draw = SCENARIOS["F1, 10 × 10, both alike"]
    hits = 0
    for k in range(150):
        rng = np.random.default_rng(k)
        ((_, evaluation),) = draw(rng)
        low, high = np.quantile(resampling.bootstrap(evaluation, n_boot=400, seed=k), [0.025, 0.975])
        hits += low <= truth <= high
    assert hits / 150 > 0.99 > covered(truth, draw, 150, seed=1)[0] - 0.005


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


# --- tables ----------------------------------------------------------------------------------------------------------


def small_corpora():
    """Two corpora of ten notes with three entities each."""
    entities = (Entity(0, 2), Entity(3, 5), Entity(6, 8))
    return {
        name: Corpus(name, tuple(Document(f"{name}{k}", "発熱、咳嗽、胸痛", entities) for k in range(10)))
        for name in ("CR", "PN")
    }


def finished_runs(folder, corpora, n_found):
    """A run of each system and training corpus, written and read back; it finds the first `n_found(...)` entities."""
    for system, train in product(SYSTEMS, STUDY.train):
        for name in STUDY.evaluate:
            gold = evaluation_corpus(STUDY, corpora, train, name)
            predicted = [
                Prediction(d.id, tuple(Entity(e.start, e.end, score=0.3 * (k + 1)) for k, e in enumerate(found)))
                for d in gold
                for found in [d.entities[: n_found(system, train, name, d)]]
            ]
            place = folder / "s" / system / train / "seed-0"
            runs.write_predictions(predicted, gold, place / "predictions" / f"{name}.jsonl")
        runs.write_run(place, {"system": system, "train": train, "seed": 0})
    return runs.read_runs(folder, "s")


def test_the_gap_is_out_of_domain_less_in_domain(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(tmp_path, corpora, lambda system, train, name, d: 3 if train == name else 1)
    table = stats.gap_table(STUDY, stats.evaluations(Results(STUDY, corpora, finished)))
    assert table.loc[("OLD", "CR", "PN"), "Δ (points)"] == pytest.approx(50 - 100)


def test_a_positive_difference_of_gaps_says_that_the_first_loses_less(tmp_path):
    corpora = small_corpora()
    found = {"old": 2, "new": 1}
    finished = finished_runs(tmp_path, corpora, lambda system, train, name, d: 3 if train == name else found[system])
    row = stats.gap_difference_table(STUDY, stats.evaluations(Results(STUDY, corpora, finished))).loc[("OLD", "NEW", "CR", "PN")]
    assert row["difference of Δ (points)"] == pytest.approx(80 - 50) and row["leaves out 0"]


def test_the_target_matched_gap_scores_both_trainings_on_the_same_notes(tmp_path):
    corpora = small_corpora()
    test_notes = {d.id for d in split(STUDY, corpora["PN"])[1]}

    def n_found(system, train, name, document):  # trained elsewhere: good on the test notes of PN, blind on the others
        return 3 if train == name or document.id in test_notes else 0

    finished = finished_runs(tmp_path, corpora, n_found)
    evaluated = stats.evaluations(Results(STUDY, corpora, finished))
    row = stats.target_matched_table(Results(STUDY, corpora, ()), evaluated).loc[("OLD", "PN", "CR")]
    assert row["documents"] == len(test_notes) and row["gap (points)"] == 0
    assert stats.gap_table(STUDY, evaluated).loc[("OLD", "CR", "PN"), "Δ (points)"] < 0


def test_holm_counts_every_test_of_the_table(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(tmp_path, corpora, lambda system, *_: 3 if system == "new" else 1)
    table = stats.comparison_table(STUDY, stats.evaluations(Results(STUDY, corpora, finished)), n_permutations=999)
    assert len(table) == 4 and table["p (Holm)"].tolist() == holm(table["p"]).tolist()
    assert table["difference of F1 (points)"].to_numpy() == pytest.approx(50 - 100)


def test_a_study_with_one_system_half_finished_still_gets_its_tables(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(tmp_path, corpora, lambda *_: 2)
    evaluated = stats.evaluations(Results(STUDY, corpora, [r for r in finished if (r.system, r.train) == ("old", "CR")]))
    assert len(stats.f1_table(STUDY, evaluated)) == 2 and len(stats.gap_table(STUDY, evaluated)) == 1
    assert stats.comparison_table(STUDY, evaluated).empty and stats.gap_difference_table(STUDY, evaluated).empty
    assert stats.target_matched_table(Results(STUDY, corpora, ()), evaluated).empty


def test_a_higher_threshold_keeps_fewer_entities_and_none_has_no_precision(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(tmp_path, corpora, lambda *_: 3)  # probabilities 0.3, 0.6 and 0.9
    table = stats.threshold_table(Results(STUDY, corpora, finished), [0, 0.5, 0.8, 0.95])
    rows = table[(table["system"] == "old") & (table["train"] == "CR") & (table["evaluate"] == "PN")]
    assert rows["recall"].tolist() == pytest.approx([100, 200 / 3, 100 / 3, 0])
    assert rows["precision"].tolist()[:3] == [100, 100, 100] and math.isnan(rows["precision"].iloc[3])
