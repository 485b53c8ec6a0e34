"""How well predicted entities match gold ones: exact and partial precision, recall and F1 over documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from nbutils.corpus import Document, Entity, Prediction, lines, separated

PARTIAL_MODES = ("overlap", "half", "any")

Key = tuple[int, int, str]  # start, end and label, which is all that scoring sees of an entity


@dataclass(frozen=True)
class Scores:
    """Credited matches (whole numbers for exact matching) and what they are divided by."""

    matched_predicted: float  # credit counted over predictions: the numerator of precision
    matched_gold: float  # credit counted over gold entities: the numerator of recall
    n_predicted: int
    n_gold: int

    @property
    def precision(self) -> float:
        return _ratio(self.matched_predicted, self.n_predicted, self.n_gold)

    @property
    def recall(self) -> float:
        return _ratio(self.matched_gold, self.n_gold, self.n_predicted)

    @property
    def f1(self) -> float:
        p, r = self.precision, self.recall
        return 2 * p * r / (p + r) if p + r else 0.0

    def __add__(self, other: Scores) -> Scores:
        return Scores(
            self.matched_predicted + other.matched_predicted,
            self.matched_gold + other.matched_gold,
            self.n_predicted + other.n_predicted,
            self.n_gold + other.n_gold,
        )


NOTHING = Scores(0, 0, 0, 0)


def _ratio(matched: float, n: int, n_other: int) -> float:
    """With nothing on either side the ratio is 1; with only this side empty it is 0."""
    return matched / n if n else float(not n_other)


def pair(gold: Iterable[Document], predicted: Iterable[Prediction]) -> list[tuple[Document, Prediction]]:
    """Each gold document with its prediction.

    Raises:
        ValueError: a prediction for no gold document, two for one, or a gold document without one.
    """
    documents = list(gold)
    by_id: dict[str, Prediction] = {}
    for prediction in predicted:
        if prediction.document_id in by_id:
            raise ValueError(f'document "{prediction.document_id}" is predicted twice; keep one prediction a document')
        by_id[prediction.document_id] = prediction
    if unknown := set(by_id) - {d.id for d in documents}:
        raise ValueError(f'prediction for "{min(unknown)}", which is no gold document; score against its own corpus')
    if missing := {d.id for d in documents} - set(by_id):
        raise ValueError(f'document "{min(missing)}" has no prediction; a document without entities needs an empty one')
    return [(d, by_id[d.id]) for d in documents]


def exact_scores(gold: Iterable[Document], predicted: Iterable[Prediction]) -> Scores:
    """Micro-averaged exact-span scores over a corpus.

    A predicted entity counts when document, start, end and label all equal a gold entity's. With no gold and no
    predicted entity all three are 1; with only one side empty they are 0. Duplicates count once.

    Source: the evaluation of Shimizu et al. 2025 (micro F1, exact match); the zero cases are ours.
    """
    return sum((exact_document(d.entities, p.entities) for d, p in pair(gold, predicted)), NOTHING)


def exact_document(gold: Iterable[Entity], predicted: Iterable[Entity]) -> Scores:
    return _exact({e.key for e in gold}, {e.key for e in predicted})


def _exact(gold: Set[tuple], predicted: Set[tuple]) -> Scores:
    matched = len(gold & predicted)
    return Scores(matched, matched, len(predicted), len(gold))


def certainty_scores(gold: Iterable[Document], predicted: Iterable[Prediction]) -> tuple[Scores, Scores]:
    """Exact scores without and with the certainty: (start, end, tag), and the same with the certainty as well.

    The certainty is read from the entity or from its type (`d-positive` is a `d`, `positive`), so the first are the
    plain scores also where the certainty is part of the type. The share of right spans whose certainty is right too
    is the second number of matches over the first. Of two predictions of one span either may be the right one.
    """
    plain = with_certainty = NOTHING
    for document, prediction in pair(gold, predicted):
        ours, theirs = ([separated(e) for e in side.entities] for side in (document, prediction))
        plain += exact_document(ours, theirs)
        with_certainty += _exact({(*e.key, e.certainty) for e in ours}, {(*e.key, e.certainty) for e in theirs})
    return plain, with_certainty


def carry_certainty(predicted: Iterable[Prediction]) -> bool:
    """Whether any predicted entity says a certainty, by itself or in its type."""
    return any(separated(e).certainty is not None for p in predicted for e in p.entities)


def partial_scores(gold: Iterable[Document], predicted: Iterable[Prediction], mode: str) -> Scores:
    """Micro-averaged scores that give credit for a part; an exact span always counts 1. Duplicates count once.

    Modes, for gold 排液量が過多 and prediction 多 (Table 4 of the paper):
        `overlap`: shared characters over the prediction's (precision) and the gold entity's (recall): 1.00 and 0.17.
        `half`: half a point to both for any shared character, 0.50 and 0.50; with one label nervaluate's "partial".
        `any`: a whole point to both for any shared character: 1 and 1.

    Each entity has one partner at most, of its own label. Exact pairs are partners first; the rest are paired so that
    the sum of the credits of both sides is greatest (an assignment problem, solved exactly, not greedily). As long as
    the spans of one side do not overlap, no other pairing has a greater sum. Gold and prediction are treated alike:
    swapping them swaps precision and recall.

    Raises:
        ValueError: an unknown mode, or predictions that do not belong to the documents.

    Source: `overlap` is the fraction of the Real-MedNLP shared task, whose evaluator sums it over all pairs; the
    pairing one to one is ours.
    """
    if mode not in PARTIAL_MODES:
        raise ValueError(f'unknown mode "{mode}"; use one of {", ".join(PARTIAL_MODES)}')
    pairs = pair(gold, predicted)
    return sum((partial_document(d.entities, p.entities, mode) for d, p in pairs), NOTHING)


def partial_document(gold: Iterable[Entity], predicted: Iterable[Entity], mode: str) -> Scores:
    gold_keys, predicted_keys = {e.key for e in gold}, {e.key for e in predicted}
    exact = gold_keys & predicted_keys
    matched_predicted = matched_gold = len(exact)
    for label in sorted({key[2] for key in gold_keys ^ predicted_keys}):
        to_predicted, to_gold = _best_credits(
            sorted(k for k in gold_keys - exact if k[2] == label),
            sorted(k for k in predicted_keys - exact if k[2] == label),
            mode,
        )
        matched_predicted += to_predicted
        matched_gold += to_gold
    return Scores(matched_predicted, matched_gold, len(predicted_keys), len(gold_keys))


def _best_credits(gold: list[Key], predicted: list[Key], mode: str) -> tuple[float, float]:
    """What the pairing of greatest total credit gives to the predictions and to the gold entities."""
    if predicted < gold:  # so that pairings of equal sum are chosen alike, whichever side is called gold
        return _best_credits(predicted, gold, mode)[::-1]
    starts, ends = np.array([k[:2] for k in gold]).reshape(-1, 2).T
    other_starts, other_ends = np.array([k[:2] for k in predicted]).reshape(-1, 2).T
    shared = np.minimum(ends[:, None], other_ends) - np.maximum(starts[:, None], other_starts)
    shared = np.maximum(shared, 0)
    if mode == "overlap":
        to_predicted, to_gold = shared / (other_ends - other_starts), shared / (ends - starts)[:, None]
    else:
        to_predicted = to_gold = (shared > 0) * (0.5 if mode == "half" else 1.0)
    rows, columns = linear_sum_assignment(to_predicted + to_gold, maximize=True)
    return float(to_predicted[rows, columns].sum()), float(to_gold[rows, columns].sum())


def moved_at_random(document: Document, entities: Iterable[Entity], rng: np.random.Generator) -> tuple[Entity, ...]:
    """Each entity at a random place of its line (or lines), its length and type kept: what guessing would mark.

    A partial score of these is what chance gives; entities of crowded lines touch each other without any skill.
    """
    stretches, moved = lines(document.text), []
    for e in entities:
        touched = [span for span in stretches if span[0] < e.end and e.start < span[1]] or [(e.start, e.end)]
        start = int(rng.integers(touched[0][0], max(touched[-1][1] - (e.end - e.start), touched[0][0]) + 1))
        moved.append(replace(e, start=start, end=start + e.end - e.start))
    return tuple(moved)


def scores_by_label(gold: Iterable[Document], predicted: Iterable[Prediction]) -> dict[str, Scores]:
    """Exact scores of each label; their sum is the score of all labels together, since no match joins two labels."""
    scores: dict[str, Scores] = {}
    for document, prediction in pair(gold, predicted):
        for label in sorted({e.label for e in (*document.entities, *prediction.entities)}):
            right, marked = ([e for e in side.entities if e.label == label] for side in (document, prediction))
            scores[label] = scores.get(label, NOTHING) + exact_document(right, marked)
    return scores


# --- by what training has seen ---------------------------------------------------------------------------------------

FREQUENCIES = {"unseen": 0, "once": 1, "2 to 4 times": 2, "5 times or more": 5}  # the least count of each class


def scores_by_frequency(
    gold: Iterable[Document], predicted: Iterable[Prediction], train: Iterable[Document]
) -> dict[str, Scores]:
    """Exact scores of the entities whose string was an entity of the training part so many times (`FREQUENCIES`).

    Gold and predicted entities are both sorted by their own string. A match has one string, so no match is lost and the
    classes add up to the score of all entities; all but `unseen` together are the seen ones.
    """
    counts = Counter(d.surface(e) for d in train for e in d.entities)
    classes = {string: frequency_class(n) for string, n in counts.items()}
    total = dict.fromkeys(FREQUENCIES, NOTHING)

    def by_class(document: Document, entities: Iterable[Entity]) -> dict[str, list[Entity]]:
        found: dict[str, list[Entity]] = {name: [] for name in FREQUENCIES}
        for entity in entities:
            found[classes.get(document.surface(entity), "unseen")].append(entity)
        return found

    for document, prediction in pair(gold, predicted):
        right, marked = by_class(document, document.entities), by_class(document, prediction.entities)
        for name in total:
            total[name] += exact_document(right[name], marked[name])
    return total


def frequency_class(count: int) -> str:
    """The class of a string that training has marked so many times."""
    return [name for name, least in FREQUENCIES.items() if count >= least][-1]
