"""Expected scores without labels: near the truth where probabilities mean what they say, and off where they do not."""

import numpy as np
import pytest
from scipy.special import expit

from nbutils.corpus import Document, Entity, Prediction
from nbutils.scoring.estimate import Labelled, calibrated, expected_scores, labelled


def simulated(rng, n_notes, hardness=0.0, power=1.0):
    """Notes with 12 marks each: probability `p` of being right, told as p^power; misses at the rate of false marks."""
    p = expit(rng.normal(1.5 - hardness, 1.5, (n_notes, 12)))
    correct = rng.random(p.shape) < p
    missed = rng.poisson(1.4 * (~correct).sum(axis=1)).astype(float)
    told = np.clip(p**power, 1e-4, 1 - 1e-4)
    note = np.repeat(np.arange(n_notes), 12)
    return Labelled(note, told.ravel(), correct.ravel(), missed), [list(row) for row in told]


def true_f1(found):
    matched = found.correct.sum()
    return 100 * 2 * matched / (2 * matched + (~found.correct).sum() + found.missed.sum())


@pytest.mark.parametrize("hardness", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("power", [1.0, 0.3])
def test_expected_f1_is_near_the_truth_while_probabilities_keep_their_meaning(hardness, power):
    """Also on harder notes, and for a system that is too certain in the same way everywhere."""
    rng = np.random.default_rng(0)
    source, _ = simulated(rng, 400, power=power)
    target, scores = simulated(rng, 400, hardness, power)
    e = expected_scores(source, scores, n_boot=50)
    assert e.f1 == pytest.approx(true_f1(target), abs=3)
    assert e.precision == pytest.approx(100 * target.correct.mean(), abs=3)
    assert e.recall == pytest.approx(100 * target.correct.sum() / (target.correct.sum() + target.missed.sum()), abs=4)
    assert e.low < e.f1 < e.high


def test_a_system_that_stays_certain_where_it_is_wrong_is_believed():
    """What a change of hospital may do, and what no probability can tell."""
    rng = np.random.default_rng(0)
    source, _ = simulated(rng, 400)
    target, _ = simulated(rng, 400, hardness=2.0)
    _, certain = simulated(rng, 400)
    assert expected_scores(source, certain, n_boot=20).f1 > true_f1(target) + 20


def test_on_its_own_notes_the_estimate_is_what_was_counted():
    source, scores = simulated(np.random.default_rng(1), 300)
    e = expected_scores(source, scores, n_boot=20)
    assert e.f1 == pytest.approx(true_f1(source), abs=0.5)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, held = np.random.default_rng(2), 0
    for _ in range(20):
        (source, _), (target, scores) = simulated(rng, 40), simulated(rng, 40, 0.7)
        e = expected_scores(source, scores, n_boot=40)
        held += e.low <= true_f1(target) <= e.high
    assert held >= 16


def test_platt_scaling_finds_the_probabilities_behind_scores():
    rng = np.random.default_rng(3)
    p = rng.uniform(0.05, 0.95, 20_000)
    told = expit(2 * np.log(p / (1 - p)) + 1)  # too certain, and shifted
    found = calibrated(told, rng.random(len(p)) < p, np.ones(len(p)), told)
    assert np.abs(found - p).max() < 0.03


def test_too_little_to_go_by_gives_no_estimate():
    source, scores = simulated(np.random.default_rng(4), 30)
    empty = Labelled(np.empty(0, int), np.empty(0), np.empty(0, bool), np.zeros(3))
    assert expected_scores(empty, scores) is None and expected_scores(source, [[], []]) is None


def test_misses_are_counted_for_every_labelled_note():
    notes = [Document("a", "発熱と咳嗽", (Entity(0, 2), Entity(3, 5))), Document("b", "胸水", (Entity(0, 2),))]
    found = labelled(notes, [Prediction("a", (Entity(0, 2, score=0.9), Entity(2, 3, score=0.2))), Prediction("b", ())])
    assert found.note.tolist() == [0, 0] and found.correct.tolist() == [True, False]
    assert found.missed.tolist() == [1, 1]
