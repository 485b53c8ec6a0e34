"""Entities as BIO labels on pieces of text, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nbutils.corpus import Entity


def bio_labels(labels: Sequence[str]) -> list[str]:
    return ["O"] + [f"{prefix}-{label}" for label in labels for prefix in "BI"]


def entities_to_bio(entities: Iterable[Entity], offsets: Sequence[tuple[int, int]], labels: Sequence[str]) -> list[int]:
    """The label number of each piece; a piece that an entity only cuts into counts as inside it."""
    names = {name: k for k, name in enumerate(bio_labels(labels))}
    numbers = [0] * len(offsets)
    for entity in entities:
        touched = [k for k, (start, end) in enumerate(offsets) if start < entity.end and end > entity.start]
        for k in touched:
            numbers[k] = names[f"{'B' if k == touched[0] else 'I'}-{entity.label}"]
    return numbers


def bio_to_entities(
    log_probs: np.ndarray, offsets: Sequence[tuple[int, int]], labels: Sequence[str], decoding: str = "argmax"
) -> list[Entity]:
    """Entities from label log-probabilities [pieces, labels]; an I without its B opens an entity.

    A piece that shares characters with an entity belongs to it, whatever its label; a piece without characters
    decides nothing. An entity's score is the product of the probabilities of its pieces' labels.
    """
    path = log_probs.argmax(1) if decoding == "argmax" else viterbi(log_probs)
    names = bio_labels(labels)
    entities: list[Entity] = []
    open_label = ""  # of the entity that the piece before belongs to
    for (start, end), number, scores in zip(offsets, path, log_probs, strict=True):
        if start == end:
            continue
        kind, _, label = names[number].partition("-")
        previous = entities[-1] if entities else None
        shares = previous is not None and start < previous.end
        if number == 0:
            open_label = open_label if shares else ""
        elif shares or (kind == "I" and label == open_label):
            score = previous.score * float(np.exp(scores[number]))
            entities[-1] = Entity(previous.start, max(end, previous.end), previous.label, score=score)
            open_label = previous.label
        else:
            entities.append(Entity(start, end, label, score=float(np.exp(scores[number]))))
            open_label = label
    return entities


def viterbi(log_probs: np.ndarray) -> np.ndarray:
    """The likeliest label path in which every I follows a B or I of its own type. [pieces, labels] -> [pieces]."""
    n, n_labels = log_probs.shape
    path = np.zeros(n, int)
    if not n:
        return path
    step = np.zeros((n_labels, n_labels))  # from, to
    for inside in range(2, n_labels, 2):
        step[:, inside] = -np.inf
        step[[inside - 1, inside], inside] = 0
    best = log_probs[0].astype(float)
    best[2::2] = -np.inf
    back = np.zeros((n, n_labels), int)
    for k in range(1, n):
        total = best[:, None] + step
        back[k] = total.argmax(0)
        best = total.max(0) + log_probs[k]
    path[-1] = best.argmax()
    for k in range(n - 1, 0, -1):
        path[k - 1] = back[k, path[k]]
    return path
