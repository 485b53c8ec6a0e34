"""Counts by seed and document of one system, F1 from counts, and the groups that notes come in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nbutils import privacy
from nbutils.corpus import Document, Prediction
from nbutils.scoring.spans import Scores, exact_document, pair

# What notes may have in common, as `meta` names it: a group that is sampled as a whole.
GROUPS = privacy.NAMES


@dataclass(frozen=True)
class Evaluation:
    """One system on some documents: `counts[seed, document]` is (matched, predicted, gold).

    `training` names what was trained (system and corpus): evaluations of one training share its luck, seed by seed; a
    `deterministic` one has none, and would give the same model again.
    `cluster` are the keys of `meta` by which notes are sampled; None stands for all of `GROUPS` that the notes name.
    """

    documents: tuple[Document, ...]
    counts: np.ndarray
    training: str = ""
    cluster: tuple[str, ...] | None = None
    deterministic: bool = False

    @property
    def f1(self) -> float:
        """Micro F1 in percent, averaged over seeds; nan with nothing to find and nothing found."""
        return 100 * micro_f1(self.counts) if self.counts[..., 1:].any() else float("nan")

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(d.id for d in self.documents)

    @property
    def groups(self) -> dict[str, np.ndarray]:
        return groups(self.documents, self.cluster)

    def on(self, documents: Iterable[Document]) -> Evaluation:
        """The same predictions on some of the documents only, in the order given."""
        place = {d.id: k for k, d in enumerate(self.documents)}
        chosen = tuple(documents)
        return replace(self, documents=chosen, counts=self.counts[:, [place[d.id] for d in chosen]])


def document_counts(gold: Iterable[Document], predicted: Iterable[Prediction]) -> np.ndarray:
    """(matched, predicted, gold) entities of every gold document, exact spans; shape (documents, 3)."""
    return counts_of(exact_document(d.entities, p.entities) for d, p in pair(gold, predicted))


def counts_of(scores: Iterable[Scores]) -> np.ndarray:
    """(matched, predicted, gold) of each document's scores; shape (documents, 3)."""
    return np.array([(s.matched_gold, s.n_predicted, s.n_gold) for s in scores], dtype=float).reshape(-1, 3)


def f1_of(counts: np.ndarray) -> np.ndarray:
    """F1 = 2·matched / (predicted + gold) along the last axis; with nothing on either side it is 1, as in `spans`."""
    total = counts[..., 1] + counts[..., 2]
    return np.where(total > 0, 2 * counts[..., 0] / np.maximum(total, 1), 1.0)


def micro_f1(counts: np.ndarray) -> float:
    """F1 of the counts summed over documents, then the mean over seeds."""
    return float(f1_of(counts.sum(axis=-2)).mean())


def groups(
    documents: Sequence[Document], keys: Sequence[str] | None = None, most: int | None = 2
) -> dict[str, np.ndarray]:
    """The one or two ways in which notes are grouped: for each key the number of every note's group.

    A key counts when it divides the notes into at least two groups and puts two notes into one of them; a note without
    a value is a group of its own. A key whose groups lie within those of another (physicians within hospitals) adds
    nothing to it and is left out; of more than `most` that are left, those of the fewest groups are taken. Empty when
    each note stands alone.
    """
    found: dict[str, np.ndarray] = {}
    for key in GROUPS if keys is None else keys:
        values = [d.meta.get(key) or f"\0{k}" for k, d in enumerate(documents)]
        codes = np.unique(values, return_inverse=True)[1] if values else np.zeros(0, int)
        if len(values) and 0 < codes.max() < len(values) - 1:
            found[key] = codes
    by_size = sorted(found, key=lambda key: found[key].max())
    kept: list[str] = []
    for key in by_size:
        if not any(_within(found[key], found[coarser]) for coarser in kept):
            kept.append(key)
    return {key: codes for key, codes in found.items() if key in kept[:most]}


def _within(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Whether every group of the first lies in one group of the second."""
    return len(set(zip(fine.tolist(), coarse.tolist(), strict=True))) == fine.max() + 1
