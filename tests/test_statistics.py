"""How sure a score is: intervals that cover, tests that do not cry wolf, differences with the right sign."""

import math
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from nbutils import runs
from nbutils import statistics as stats
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.scores import exact_scores
from nbutils.statistics import Evaluation, f1_of, holm, interval, micro_f1, permutation_test
from nbutils.study import Study, System, evaluation_corpus, split

SYSTEMS = {name: System(name, "crf", (0,), {}, name.upper()) for name in ("old", "new")}
STUDY = Study("s", {}, SYSTEMS, train=("CR", "PN"), evaluate=("CR", "PN"))


def bare_notes(n, prefix="n"):
    return tuple(Document(f"{prefix}{k}", "") for k in range(n))


def crossed(n_physicians=10, n_cases=10):
    cells = product(range(n_physicians), range(n_cases))
    return tuple(Document(f"{p}-{c}", "", meta={"physician": f"p{p}", "case": f"c{c}"}) for p, c in cells)


def simulated(rng, logits):
    """Counts of notes with Poisson many gold entities, each found with the note's own probability; shape + (3,)."""
    gold = 1 + rng.poisson(19, logits.shape)
    matched = rng.binomial(gold, 1 / (1 + np.exp(-logits)))
    return np.stack([matched, matched + rng.poisson(0.4 * gold), gold], axis=-1).astype(float)


def population_f1(mean, sd):
    """F1 (percent) over endlessly many notes of `simulated`, whose logits are normal."""
    z = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    recall = np.mean(1 / (1 + np.exp(-(mean + sd * z))))
    return 100 * 2 * recall / (recall + 0.4 + 1)


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
    each = stats.document_counts(gold, predicted)
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
    weights = stats.draw_documents(counts.shape[1], 20, np.random.default_rng(0))
    for row, replicate in zip(weights, stats.weighted_f1(counts, weights), strict=True):
        drawn = [counts[0, k] for k, times in enumerate(row) for _ in range(times)]
        assert len(drawn) == counts.shape[1] and replicate == pytest.approx(float(f1_of(np.sum(drawn, axis=0))))


def test_two_way_drawing_draws_whole_physicians_and_whole_cases():
    weights = stats.draw_two_way(crossed(4, 3), 50, np.random.default_rng(0)).reshape(50, 4, 3)
    physicians, cases = weights.sum(axis=2) // 3, weights.sum(axis=1) // 4
    assert (weights == physicians[:, :, None] * cases[:, None, :]).all() and (weights.sum(axis=(1, 2)) == 12).all()


def test_two_way_drawing_never_draws_nothing_from_a_thin_grid():
    diagonal = [d for d in crossed(3, 3) if d.id in {"0-0", "1-1", "2-2"}]
    assert (stats.draw_two_way(diagonal, 500, np.random.default_rng(0)).sum(axis=1) > 0).all()


def test_notes_without_a_physician_are_drawn_one_by_one():
    assert (
        stats.is_crossed(crossed(2, 2)) and not stats.is_crossed(bare_notes(4)) and not stats.is_crossed(crossed(1, 4))
    )


def test_two_systems_on_the_same_notes_are_drawn_alike():
    each = simulated(np.random.default_rng(0), np.zeros((1, 30)))
    worse = each - [1, 0, 0]
    difference = stats.bootstrap(Evaluation(bare_notes(30), each)) - stats.bootstrap(Evaluation(bare_notes(30), worse))
    assert difference.std() < 0.3 * stats.bootstrap(Evaluation(bare_notes(30), each)).std()


def test_other_notes_are_drawn_independently():
    each = simulated(np.random.default_rng(0), np.zeros((1, 30)))
    one, other = (stats.bootstrap(Evaluation(bare_notes(30, prefix), each)) for prefix in "ab")
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_a_thousand_replicates_of_a_hundred_notes_take_less_than_two_seconds():
    evaluation = Evaluation(crossed(), simulated(np.random.default_rng(0), np.zeros((3, 100))))
    begin = time.perf_counter()
    stats.bootstrap(evaluation, n_boot=1000)
    assert time.perf_counter() - begin < 2


def test_the_interval_of_a_hundred_documents_is_nearly_the_plain_percentile_interval():
    replicates = np.random.default_rng(0).normal(size=4000)
    low, high = interval(replicates, Evaluation(bare_notes(100), np.zeros((1, 100, 3))))
    assert (low, high) == pytest.approx(np.quantile(replicates, [0.025, 0.975]), abs=0.1)


def test_few_documents_widen_the_interval_as_student_says():
    replicates = np.random.default_rng(0).normal(size=100_000) * math.sqrt(9 / 10)  # of a mean, its SE being 1
    _, high = interval(
        replicates, Evaluation(bare_notes(10), np.zeros((1, 10, 3))), Evaluation(bare_notes(50), np.zeros(1))
    )
    assert high == pytest.approx(2.262, abs=0.03)  # t of 9 degrees of freedom


def covered(truth, draw, n_corpora):
    """Share of simulated corpora whose interval holds the truth; `draw(rng)` gives replicates and evaluations."""
    hits = 0
    for seed in range(n_corpora):
        replicates, *evaluated = draw(np.random.default_rng([7, seed]))
        low, high = interval(replicates, *evaluated)
        hits += low <= truth <= high
    return hits / n_corpora


def evaluation_of(rng, n, mean, prefix):
    return Evaluation(bare_notes(n, prefix), simulated(rng, rng.normal(mean, 0.7, (1, n))))


def replicates_of(rng, evaluation):
    return stats.bootstrap(evaluation, n_boot=400, seed=int(rng.integers(2**31)))


# 800 corpora: the standard error of a coverage of 95 % is 0.8 %.
@pytest.mark.parametrize("n", [30, 100])
def test_the_interval_of_f1_covers_in_95_of_100_corpora(n):
    def draw(rng):
        evaluation = evaluation_of(rng, n, 0.7, "n")
        return replicates_of(rng, evaluation), evaluation

    assert covered(population_f1(0.7, 0.7), draw, 800) == pytest.approx(0.95, abs=0.02)


def test_the_interval_of_the_gap_covers_in_95_of_100_corpora():
    def draw(rng):
        inside, outside = evaluation_of(rng, 30, 1.2, "in"), evaluation_of(rng, 100, 0.2, "out")
        return replicates_of(rng, outside) - replicates_of(rng, inside), inside, outside

    assert covered(population_f1(0.2, 0.7) - population_f1(1.2, 0.7), draw, 800) == pytest.approx(0.95, abs=0.02)


def test_the_interval_of_a_difference_of_gaps_covers_in_95_of_100_corpora():
    def draw(rng):
        gaps, parts = [], []
        ease = {n: rng.normal(0, 0.5, (1, n)) for n in (30, 100)}  # what makes a note hard, it does for both systems
        seeds = {n: int(rng.integers(2**31)) for n in ease}
        for drop in (0.5, 1.0):
            drawn = {}
            for n, mean in ((30, 1.2), (100, 1.2 - drop)):
                logits = mean + ease[n] + rng.normal(0, math.sqrt(0.7**2 - 0.5**2), (1, n))
                parts.append(Evaluation(bare_notes(n, f"{n}-"), simulated(rng, logits)))
                drawn[n] = stats.bootstrap(parts[-1], n_boot=400, seed=seeds[n])
            gaps.append(drawn[100] - drawn[30])
        return gaps[0] - gaps[1], *parts

    truth = population_f1(0.7, 0.7) - population_f1(0.2, 0.7)
    assert covered(truth, draw, 600) == pytest.approx(0.95, abs=0.02)


def physicians_and_cases(rng, sds):
    """Crossed notes whose logits have an SD over physicians, over cases and from note to note."""
    physician, case, rest = (
        rng.normal(0, sd, shape) for sd, shape in zip(sds, [(10, 1), (1, 10), (10, 10)], strict=True)
    )
    return Evaluation(crossed(), simulated(rng, (0.7 + physician + case + rest).reshape(1, 100)))


@pytest.mark.parametrize("sds", [(0.7, 0.0, 0.3), (0.5, 0.5, 0.3)])
def test_two_way_intervals_cover_when_hands_and_cases_differ(sds):
    def draw(rng):
        evaluation = physicians_and_cases(rng, sds)
        return replicates_of(rng, evaluation), evaluation

    truth = population_f1(0.7, math.hypot(*sds))
    assert covered(truth, draw, 600) == pytest.approx(0.95, abs=0.03)  # ten hands are few: a point is left to that


def test_drawing_notes_one_by_one_would_be_far_too_sure_of_crossed_notes():
    def draw(rng):
        evaluation = physicians_and_cases(rng, (0.5, 0.5, 0.3))
        evaluation = Evaluation(bare_notes(100), evaluation.counts)  # the same notes, their hands and cases forgotten
        return replicates_of(rng, evaluation), evaluation

    assert covered(population_f1(0.7, math.hypot(0.5, 0.5, 0.3)), draw, 200) < 0.75


def test_two_way_intervals_err_on_the_wide_side_when_hands_and_cases_are_alike():
    def draw(rng):
        evaluation = physicians_and_cases(rng, (0.0, 0.0, 0.7))
        return replicates_of(rng, evaluation), evaluation

    assert covered(population_f1(0.7, 0.7), draw, 200) > 0.95


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
    assert permutation_test(first, second, n_permutations=20_000)[1] == pytest.approx(as_far / 2**9, abs=0.015)


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
    table = stats.gap_table(STUDY, stats.evaluations(STUDY, finished, corpora))
    assert table.loc[("OLD", "CR", "PN"), "Δ (points)"] == pytest.approx(50 - 100)


def test_a_positive_difference_of_gaps_says_that_the_first_loses_less(tmp_path):
    corpora = small_corpora()
    found = {"old": 2, "new": 1}
    finished = finished_runs(tmp_path, corpora, lambda system, train, name, d: 3 if train == name else found[system])
    row = stats.gap_difference_table(STUDY, stats.evaluations(STUDY, finished, corpora)).loc[("OLD", "NEW", "CR", "PN")]
    assert row["difference of Δ (points)"] == pytest.approx(80 - 50) and row["leaves out 0"]


def test_the_target_matched_gap_scores_both_trainings_on_the_same_notes(tmp_path):
    corpora = small_corpora()
    test_notes = {d.id for d in split(STUDY, corpora["PN"])[1]}

    def n_found(system, train, name, document):  # trained elsewhere: good on the test notes of PN, blind on the others
        return 3 if train == name or document.id in test_notes else 0

    finished = finished_runs(tmp_path, corpora, n_found)
    evaluated = stats.evaluations(STUDY, finished, corpora)
    row = stats.target_matched_table(STUDY, evaluated, corpora).loc[("OLD", "PN", "CR")]
    assert row["documents"] == len(test_notes) and row["gap (points)"] == 0
    assert stats.gap_table(STUDY, evaluated).loc[("OLD", "CR", "PN"), "Δ (points)"] < 0


def test_holm_counts_every_test_of_the_table(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(tmp_path, corpora, lambda system, *_: 3 if system == "new" else 1)
    table = stats.comparison_table(STUDY, stats.evaluations(STUDY, finished, corpora), n_permutations=999)
    assert len(table) == 4 and table["p (Holm)"].tolist() == holm(table["p"]).tolist()
    assert table["difference of F1 (points)"].to_numpy() == pytest.approx(50 - 100)


def test_a_study_with_one_system_half_finished_still_gets_its_tables(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(tmp_path, corpora, lambda *_: 2)
    evaluated = stats.evaluations(STUDY, [r for r in finished if (r.system, r.train) == ("old", "CR")], corpora)
    assert len(stats.f1_table(STUDY, evaluated)) == 2 and len(stats.gap_table(STUDY, evaluated)) == 1
    assert stats.comparison_table(STUDY, evaluated).empty and stats.gap_difference_table(STUDY, evaluated).empty
    assert stats.target_matched_table(STUDY, evaluated, corpora).empty


def test_a_higher_threshold_keeps_fewer_entities_and_none_has_no_precision(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(tmp_path, corpora, lambda *_: 3)  # probabilities 0.3, 0.6 and 0.9
    table = stats.threshold_table(STUDY, finished, corpora, [0, 0.5, 0.8, 0.95])
    rows = table[(table["system"] == "old") & (table["train"] == "CR") & (table["evaluate"] == "PN")]
    assert rows["recall"].tolist() == pytest.approx([100, 200 / 3, 100 / 3, 0])
    assert rows["precision"].tolist()[:3] == [100, 100, 100] and math.isnan(rows["precision"].iloc[3])
