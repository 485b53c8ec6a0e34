"""Do probabilities mean what they say? Small cases by hand, large ones by construction."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils import ROOT, figures
from nbutils.analysis import calibration
from nbutils.corpus import Document, Entity, Prediction
from nbutils.scoring.calibration import (
    area_under_risk,
    expected_calibration_error,
    outcomes,
    reliability,
    risk_coverage,
)
from nbutils.study.file import load_study

FOUND = st.lists(st.tuples(st.sampled_from([0, 0.05, 0.1, 0.35, 0.5, 0.999, 1]) | st.floats(0, 1), st.booleans()),
                 min_size=1, max_size=40).map(lambda rows: table(*rows))  # fmt: skip


def table(*rows):
    return pd.DataFrame(rows, columns=["score", "correct"]).astype({"score": float, "correct": bool})


def test_an_entity_is_correct_only_with_its_exact_span_and_label():
    gold = [Document("1", "発熱と咳嗽なし", (Entity(0, 2), Entity(3, 5)))]
    found = [Entity(0, 2, score=0.9), Entity(3, 4, score=0.8), Entity(3, 5, "a", score=0.7), Entity(6, 7)]
    assert outcomes(gold, [Prediction("1", tuple(found))]).values.tolist() == [[0.9, True], [0.8, False], [0.7, False]]


def test_a_calibrated_tagger_has_almost_no_error_and_a_boasting_one_has_its_excess():
    rng = np.random.default_rng(0)
    score = rng.uniform(size=100_000)
    honest = pd.DataFrame({"score": score, "correct": rng.uniform(size=score.size) < score})
    assert expected_calibration_error(honest) < 0.01
    boasting = pd.DataFrame({"score": np.full(1000, 0.95), "correct": np.arange(1000) < 600})
    assert expected_calibration_error(boasting) == pytest.approx(0.35)


def test_the_calibration_error_of_a_small_case_is_that_by_hand():
    found = table((0.15, False), (0.25, True), (0.95, True), (0.85, False))
    # Two bins: mean probability 0.2 with half correct, and 0.9 with half correct.
    assert expected_calibration_error(found, n_bins=2) == pytest.approx((2 * 0.3 + 2 * 0.4) / 4)


@given(FOUND, st.integers(1, 20))
def test_every_entity_is_in_exactly_one_bin_of_its_probability(found, n_bins):
    bins = reliability(found, n_bins)
    assert bins["n"].sum() == len(found)
    assert (bins["correct"] * bins["n"]).sum() == pytest.approx(found["correct"].sum())
    assert ((bins["from"] - 1e-9 <= bins["probability"]) & (bins["probability"] <= bins["to"] + 1e-9)).all()


@given(FOUND)
def test_risk_at_a_threshold_is_the_share_of_wrong_ones_that_are_at_least_as_sure(found):
    curve = risk_coverage(found)
    for row in curve.itertuples():
        kept = found[found["score"] >= row.threshold]
        assert row.coverage == pytest.approx(len(kept) / len(found))
        assert row.risk == pytest.approx(1 - kept["correct"].mean())
    assert curve["coverage"].is_monotonic_increasing
    assert curve["risk"].iloc[-1] == pytest.approx(1 - found["correct"].mean())


def test_abstaining_pays_only_where_wrong_entities_are_less_sure():
    right_order = table((0.9, True), (0.8, True), (0.2, False))
    wrong_order = table((0.2, True), (0.8, True), (0.9, False))
    assert area_under_risk(right_order) == pytest.approx((0 + 0 + 1 / 3) / 3)
    assert area_under_risk(wrong_order) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_a_tagger_that_finds_nothing_has_no_calibration():
    nothing = table()
    assert np.isnan(expected_calibration_error(nothing)) and np.isnan(area_under_risk(nothing))
    assert reliability(nothing).empty and risk_coverage(nothing).empty


def test_seeds_are_pooled_and_settings_kept_apart():
    found = pd.concat([
        table((0.9, True), (0.7, False)).assign(system="crf", train="CR", evaluate="PN", seed=0),
        table((0.8, True)).assign(system="crf", train="CR", evaluate="PN", seed=1),
        table((1.0, True)).assign(system="crf", train="CR", evaluate="CR", seed=0),
    ])  # fmt: skip
    summary = calibration.calibration_table(found)
    assert summary.loc[("crf", "CR", "PN"), "entities"] == 3
    assert summary.loc[("crf", "CR", "PN"), "precision (%)"] == pytest.approx(200 / 3)
    assert summary.loc[("crf", "CR", "CR"), "calibration error (points)"] == 0
    drawn = figures.calibration.figure(load_study(ROOT / "studies" / "demo.yaml"), found)
    assert drawn.get_suptitle() == "Too sure of themselves in 1 of 2 settings"
