"""Precision, recall and F1 that a run may expect on notes without labels, from the probabilities of its entities.

It trusts two things that it learned from the run's own test notes: what a probability is worth there, and how many
entities were missed there for each one that was marked wrongly. A change of hospital can break both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from nbutils.corpus import Document, Prediction
from nbutils.scoring.spans import pair

EDGE = 1e-4  # probabilities are written with four digits
LEAST = 10  # scored entities on the labelled notes, below which nothing is estimated


@dataclass(frozen=True)
class Expected:
    """Expected scores in percent; F1 with its 95 % interval over other notes, labelled and not, and nothing else."""

    precision: float
    recall: float
    f1: float
    low: float
    high: float


@dataclass(frozen=True)
class Labelled:
    """What a run found in notes with labels: each scored entity's note, probability and outcome; misses by note."""

    note: np.ndarray
    score: np.ndarray
    correct: np.ndarray
    missed: np.ndarray


def labelled(gold: Iterable[Document], predicted: Iterable[Prediction]) -> Labelled:
    """The entities that a run marked in labelled notes, and how many it missed in each note."""
    rows, missed = [], []
    for k, (document, prediction) in enumerate(pair(gold, predicted)):
        keys = {e.key for e in document.entities}
        rows += [(k, e.score, e.key in keys) for e in prediction.entities if e.score is not None]
        missed.append(len(keys - {e.key for e in prediction.entities}))
    note, score, correct = (np.array(column) for column in zip(*rows, strict=True)) if rows else [np.empty(0)] * 3
    return Labelled(note.astype(int), score.astype(float), correct.astype(bool), np.array(missed, float))


def expected_scores(
    source: Labelled, scores: Sequence[Sequence[float]], *, n_boot: int = 200, seed: int = 0
) -> Expected | None:
    """Expected scores on notes of which only the entities' probabilities are known; None with too little to go by.

    A probability becomes that of being correct by Platt scaling on the labelled notes. Expected matches are the sum of
    these; the misses are as many for each expected false mark as on the labelled notes. The interval draws both kinds
    of notes again, and what turns out right, wrong and missed.

    Args:
        source: the run on labelled notes that it was not trained on.
        scores: for each unlabelled note the probabilities of the entities that the run marked in it.

    Source: Platt 1999, Probabilistic outputs for support vector machines; the use of calibrated confidence for accuracy
    without labels as in Garg et al. 2022 (average confidence); the term for misses is ours.
    """
    score = np.array([s for of_note in scores for s in of_note], float)
    note = np.repeat(np.arange(len(scores)), [len(of_note) for of_note in scores])
    if len(source.score) < LEAST or not len(score):
        return None
    probability, misses_each = _learned(source, score, np.ones(len(source.missed)))
    wrong = float((1 - probability).sum())
    estimate = _scores(float(probability.sum()), wrong, misses_each * wrong)
    rng, f1 = np.random.default_rng(seed), []
    for _ in range(n_boot):
        n = len(source.missed), len(scores)
        ours, theirs = (rng.multinomial(k, np.full(k, 1 / k)).astype(float) for k in n)
        if not (ours[source.note].any() and theirs[note].any()):
            continue
        probability, misses_each = _learned(source, score, ours)
        right = rng.random(len(score)) < probability
        missed = rng.poisson(misses_each * theirs[note] * (1 - probability))
        f1.append(_scores(float(theirs[note] @ right), float(theirs[note] @ ~right), float(missed.sum()))[2])
    low, high = np.quantile(f1, [0.025, 0.975])
    return Expected(*(100 * value for value in (*estimate, low, high)))


def _learned(source: Labelled, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """The probability of being correct of each score, and the misses for each false mark; notes counted so often."""
    ours = weights[source.note]
    misses_each = (weights @ source.missed + 0.5) / (ours @ ~source.correct + 0.5)
    return calibrated(source.score, source.correct, ours, score), float(misses_each)


def _scores(right: float, wrong: float, missed: float) -> tuple[float, float, float]:
    """Precision, recall and F1 as shares."""
    return right / (right + wrong), right / max(right + missed, 1e-9), 2 * right / (2 * right + wrong + missed)


def calibrated(score: np.ndarray, correct: np.ndarray, weights: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The probability of being correct of `new` scores, by a logistic curve through outcomes (Platt 1999).

    The targets are drawn in a little, as Platt does, so that a run that made no mistake is not certain of everything.
    """
    n_right, n_wrong = float(weights @ correct), float(weights @ ~correct)
    target = np.where(correct, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    x = _logits(score)
    curve = LogisticRegression(C=np.inf).fit(
        np.concatenate([x, x]), np.repeat([1, 0], len(x)), np.concatenate([weights * target, weights * (1 - target)])
    )
    return curve.predict_proba(_logits(new))[:, 1]


def _logits(score: np.ndarray) -> np.ndarray:
    return logit(np.clip(score, EDGE, 1 - EDGE))[:, None]
