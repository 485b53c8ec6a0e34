"""Do probabilities mean what they say? Small cases by hand, large ones by construction."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from nbutils import ROOT, figures, load_study, open_results
from nbutils.analysis import calibration
from nbutils.corpus import Document, Entity, Prediction
from nbutils.scoring.calibration import (
    area_under_risk,
    brier_score,
    expected_calibration_error,
    outcomes,
    reliability,
    risk_coverage,
)

ENTITIES = st.lists(st.tuples(st.sampled_from([0, 0.05, 0.1, 0.35, 0.5, 0.999, 1]) | st.floats(0, 1), st.booleans()),
                 min_size=1, max_size=40).map(lambda rows: table(*rows))  # fmt: skip


def table(*rows):
    return pd.DataFrame(rows, columns=["score", "correct"]).astype({"score": float, "correct": bool})


def test_an_entity_is_correct_only_with_its_exact_span_and_label():
    gold = [Document("1", "発熱と咳嗽なし", (Entity(0, 2), Entity(3, 5)))]
    entities = [Entity(0, 2, score=0.9), Entity(3, 4, score=0.8), Entity(3, 5, "a", score=0.7), Entity(6, 7)]
    assert outcomes(gold, [Prediction("1", tuple(entities))])[["score", "correct"]].values.tolist() == [
        [0.9, True],
        [0.8, False],
        [0.7, False],
    ]


def test_a_calibrated_tagger_has_almost_no_error_and_a_boasting_one_has_its_excess():
    rng = np.random.default_rng(0)
    score = rng.uniform(size=100_000)
    honest = pd.DataFrame({"score": score, "correct": rng.uniform(size=score.size) < score})
    assert expected_calibration_error(honest) < 0.01
    boasting = pd.DataFrame({"score": np.full(1000, 0.95), "correct": np.arange(1000) < 600})
    assert expected_calibration_error(boasting) == pytest.approx(0.35)


def test_the_calibration_error_of_a_small_case_is_that_by_hand():
    entities = table((0.15, False), (0.25, True), (0.95, True), (0.85, False))
    # Two bins: mean probability 0.2 with half correct, and 0.9 with half correct.
    assert expected_calibration_error(entities, n_bins=2) == pytest.approx((2 * 0.3 + 2 * 0.4) / 4)


@given(ENTITIES, st.integers(1, 20))
@settings(deadline=None)
def test_every_entity_is_in_exactly_one_bin_of_its_probability(entities, n_bins):
    bins = reliability(entities, n_bins)
    assert bins["n"].sum() == len(entities)
    assert (bins["correct"] * bins["n"]).sum() == pytest.approx(entities["correct"].sum())
    assert ((bins["from"] - 1e-9 <= bins["probability"]) & (bins["probability"] <= bins["to"] + 1e-9)).all()


@given(ENTITIES)
@settings(deadline=None)
def test_risk_at_a_threshold_is_the_share_of_wrong_ones_that_are_at_least_as_sure(entities):
    curve = risk_coverage(entities)
    for row in curve.itertuples():
        kept = entities[entities["score"] >= row.threshold]
        assert row.coverage == pytest.approx(len(kept) / len(entities))
        assert row.risk == pytest.approx(1 - kept["correct"].mean())
    assert curve["coverage"].is_monotonic_increasing
    assert curve["risk"].iloc[-1] == pytest.approx(1 - entities["correct"].mean())


def test_abstaining_pays_only_where_wrong_entities_are_less_sure():
    right_order = table((0.9, True), (0.8, True), (0.2, False))
    wrong_order = table((0.2, True), (0.8, True), (0.9, False))
    assert area_under_risk(right_order) == pytest.approx((0 + 0 + 1 / 3) / 3)
    assert area_under_risk(wrong_order) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_a_tagger_that_finds_nothing_has_no_calibration():
    nothing = table()
    assert np.isnan(expected_calibration_error(nothing)) and np.isnan(area_under_risk(nothing))
    assert reliability(nothing).empty and risk_coverage(nothing).empty


@given(ENTITIES)
@settings(deadline=None)
def test_the_brier_score_is_scikit_learns(entities):
    judge = brier_score_loss(entities["correct"], entities["score"], pos_label=True)
    assert brier_score(entities) == pytest.approx(judge)


@given(ENTITIES)
@settings(deadline=None)
def test_the_reliability_diagram_is_scikit_learns(entities):
    share, probability = calibration_curve(entities["correct"], entities["score"], n_bins=4)
    bins = reliability(entities, 4)
    edges = np.arange(1, 4) / 4
    if not np.isin(entities["score"], edges).any():  # which side an edge belongs to differs
        assert bins["correct"].tolist() == pytest.approx(list(share))
        assert bins["probability"].tolist() == pytest.approx(list(probability))


def test_three_equal_runs_are_not_counted_three_times():
    results = open_results(ROOT / "studies" / "demo.yaml")
    entities = calibration.outcomes_of_runs(results)
    table = calibration.calibration_table(results, entities, n_boot=50)
    n_predicted = len(entities.query("system == 'crf' and train == 'CR' and evaluate == 'PN' and seed == 0"))
    row = table.loc[("crf", "CR", "PN")]
    assert row["entities a run"] == n_predicted
    assert row["95 % from"] < row["too certain by (points)"] < row["95 % to"]


def test_a_study_in_which_nobody_gives_a_probability_has_an_empty_table():
    results = open_results(load_study("studies/demo.yaml"), "data/reference_runs")
    nobody = calibration.outcomes_of_runs(results, set(results.study.systems))
    empty = calibration.calibration_table(results, nobody, n_boot=50)
    assert empty.empty and list(empty.index.names) == calibration.KEYS


def test_the_title_counts_both_sides_of_the_line():
    entities = pd.concat([
        table((0.9, True), (0.7, False)).assign(system="crf", train="CR", evaluate="PN", seed=0),
        table((0.9, True)).assign(system="crf", train="CR", evaluate="CR", seed=0),
    ])  # fmt: skip
    drawn = figures.calibration.figure(load_study(ROOT / "studies" / "demo.yaml"), entities)
    assert drawn.get_suptitle() == "More certain than right in 1 of 2 settings, less in 1"
