"""Tables of intervals and tests over a study's runs: differences with the right sign, families, floors, sentences."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from nbutils import ROOT, open_results
from nbutils.analysis import calibration, main_result
from nbutils.analysis import significance as stats
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.files import DataError
from nbutils.scoring.permutation import holm
from nbutils.study import runs
from nbutils.study.corpora import evaluation_corpus, split
from nbutils.study.file import Study, System
from nbutils.study.results import Results

SYSTEMS = {name: System(name, "crf", (0,), {}, name.upper()) for name in ("old", "new")}
STUDY = Study("s", {}, SYSTEMS, train=("CR", "PN"), evaluate=("CR", "PN"))


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
    row = stats.gap_difference_table(STUDY, stats.evaluations(Results(STUDY, corpora, finished)))
    row = row.loc[("difference of Δ (points)", "OLD", "NEW", "CR", "PN")]
    assert row["value"] == pytest.approx(80 - 50)


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


def test_without_a_named_pair_every_pair_is_of_the_family(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(
        tmp_path, corpora, lambda system, train, name, d: 3 if system == "new" else 1 + int(d.id[2:]) % 2
    )
    table = stats.comparison_table(STUDY, stats.evaluations(Results(STUDY, corpora, finished)), n_permutations=999)
    assert len(table) == 4 and set(table.index.get_level_values("family")) == {"asked"}
    wider = table["p, other trainings"].fillna(table["p"])  # a training without chance has both, the same
    assert table["p (Holm)"].tolist() == pytest.approx(holm(wider).tolist())
    assert (table["difference of F1 (points)"] < 0).all()


def test_a_study_with_one_system_half_finished_still_gets_its_tables(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(tmp_path, corpora, lambda *_: 2)
    evaluated = stats.evaluations(
        Results(STUDY, corpora, [r for r in finished if (r.system, r.train) == ("old", "CR")])
    )
    assert len(stats.f1_table(STUDY, evaluated)) == 2 and len(stats.gap_table(STUDY, evaluated)) == 1
    assert stats.comparison_table(STUDY, evaluated).empty and stats.gap_difference_table(STUDY, evaluated).empty
    assert stats.target_matched_table(Results(STUDY, corpora, ()), evaluated).empty


def test_a_higher_threshold_keeps_fewer_entities_and_none_has_no_precision(tmp_path):
    corpora = small_corpora()
    finished = finished_runs(tmp_path, corpora, lambda *_: 3)  # probabilities 0.3, 0.6 and 0.9
    table = calibration.threshold_table(Results(STUDY, corpora, finished), [0, 0.5, 0.8, 0.95])
    rows = table[(table["system"] == "old") & (table["train"] == "CR") & (table["evaluate"] == "PN")]
    assert rows["recall"].tolist() == pytest.approx([100, 200 / 3, 100 / 3, 0])
    assert rows["precision"].tolist()[:3] == [100, 100, 100] and math.isnan(rows["precision"].iloc[3])


# --- the bundled runs and what was wrong with them once --------------------------------------------------------------


@pytest.fixture(scope="module")
def demo():
    results = open_results(ROOT / "studies" / "demo.yaml")
    return results, stats.evaluations(results)


def test_no_verdict_depends_on_a_random_number(demo):
    """Intervals are computed; only sampled swaps are drawn, and none of twenty seeds changes a verdict."""
    results, evaluated = demo
    tables = [stats.comparison_table(results.study, evaluated, n_permutations=10_000, seed=k) for k in range(20)]
    assert len({tuple(table["p"] < 0.05) for table in tables}) == 1
    first, again = (stats.gap_difference_table(results.study, evaluated) for _ in range(2))
    assert first.equals(again)


def test_trainings_make_every_interval_wider_and_those_that_differ_much_wider(demo):
    results, evaluated = demo
    table = stats.f1_table(results.study, stats.above_floor(evaluated)).dropna()
    own, wider = (table[ends[1]] - table[ends[0]] for ends in (stats.INTERVAL, stats.WIDER))
    assert len(table)
    assert (wider >= own).all() and (wider / own).max() > 1.5


def test_the_crf_would_be_trained_alike_again_and_is_compared_over_the_trainings_of_others(demo):
    results, evaluated = demo
    crf, bert = (results.study.systems[name].title for name in ("crf", "bert"))
    scores = stats.f1_table(results.study, stats.above_floor(evaluated))
    assert set(scores.loc[crf, "trainings"]) == {"1, deterministic"} and set(scores.loc[bert, "trainings"]) == {"5"}
    assert (scores.loc[crf, stats.INTERVAL].to_numpy() == scores.loc[crf, stats.WIDER].to_numpy()).all()
    between = stats.comparison_table(results.study, evaluated, n_permutations=99).loc[("exploratory", crf, bert)]
    own, wider = (between[ends[1]] - between[ends[0]] for ends in (stats.INTERVAL, stats.WIDER))
    assert (wider > own).all() and between["p, other trainings"].notna().all()


def test_systems_that_find_nothing_are_named_and_not_tested(demo):
    results, evaluated = demo
    nothing = {results.study.systems[name].title for name in stats.at_floor(evaluated)}
    table = stats.comparison_table(results.study, evaluated, n_permutations=99)
    assert not nothing & {*table.index.get_level_values("first"), *table.index.get_level_values("second")}
    assert all(title in stats.not_counted(results.study, evaluated) for title in nothing)


def test_holm_is_over_the_pair_that_was_asked(demo):
    results, evaluated = demo
    table = stats.comparison_table(results.study, evaluated, n_permutations=99)
    assert len(table.loc["asked"]) == 4 and table.loc["exploratory", "p (Holm)"].isna().all()


def test_the_answer_names_every_counted_system_and_the_scales(demo):
    results, evaluated = demo
    text = main_result.answer(results.study, evaluated)
    assert all(results.study.systems[name].title in text for name in ("crf", "bert", "lora"))
    assert "on each scale" in text or "depends on the scale" in text
    assert "p < 0.001" in text and "p 0.000" not in text


def test_a_cluster_that_no_note_names_is_refused_with_the_nearest(demo):
    results, _ = demo
    wrong = Results(replace(results.study, cluster=("physican",)), results.corpora, ())
    with pytest.raises(DataError, match=r'cluster: no note names a "physican"; did you mean "physician"'):
        stats.evaluations(wrong)


def test_the_cluster_of_the_study_is_what_notes_are_sampled_by(demo):
    results, _ = demo
    by_case = Results(replace(results.study, cluster=("case",)), results.corpora, results.runs)
    evaluated = stats.evaluations(by_case)
    assert stats.sampled(evaluated["crf", "CR", "PN"]) == "10 cases"


def test_three_hospitals_are_a_key_like_any_other(demo):
    results, _ = demo
    documents = tuple(
        replace(d, meta={**d.meta, "hospital": f"H{int(d.meta['physician'][-2:]) % 3}"}) for d in results.corpora["PN"]
    )
    corpora = {**results.corpora, "PN": replace(results.corpora["PN"], documents=documents)}
    evaluated = stats.evaluations(Results(results.study, corpora, results.runs))
    assert stats.sampled(evaluated["crf", "CR", "PN"]) == "3 hospitals × 10 cases"


def test_an_empty_corpus_scores_a_dash_and_not_a_hundred():
    empty = main_result._in_percent(main_result.NOTHING)
    assert np.isnan(empty["f1"]) and empty["n_gold"] == 0
