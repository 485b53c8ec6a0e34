"""Bootstrap replicates by whole notes or whole groups of notes, for numbers that have no formula of their own."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from nbutils.corpus import Document
from nbutils.scoring.evaluation import Evaluation, f1_of, groups


def draw(
    documents: Sequence[Document], *, cluster: Sequence[str] | None = None, n_boot: int = 10_000, seed: int = 0
) -> np.ndarray:
    """How often each document is drawn in each replicate; shape (n_boot, documents).

    Groups (`evaluation.groups`) are drawn with replacement; of two groupings both are, and a note counts as often as
    the product of the two says. A draw without any note, possible when most cells are empty, is drawn again. It depends
    on `seed` and the documents alone, so two systems on the same documents are drawn alike.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap; Owen 2007, The pigeonhole bootstrap, Annals of
    Applied Statistics 1(2), for two groupings.
    """
    rng = np.random.default_rng([seed, zlib.crc32("\n".join(d.id for d in documents).encode())])
    codes = list(groups(documents, cluster).values()) or [np.arange(len(documents))]
    weights = np.zeros((n_boot, len(documents)), dtype=int)
    empty = np.arange(n_boot)
    while len(empty):
        weights[empty] = np.prod([_draw_groups(c.max() + 1, len(empty), rng)[:, c] for c in codes], axis=0)
        empty = np.flatnonzero(weights.sum(axis=1) == 0)
    return weights


def _draw_groups(n: int, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    chosen = rng.integers(0, n, (n_boot, n)) + n * np.arange(n_boot)[:, None]
    return np.bincount(chosen.ravel(), minlength=n_boot * n).reshape(n_boot, n)


def bootstrap(evaluation: Evaluation, *, n_boot: int = 10_000, seed: int = 0) -> np.ndarray:
    """Replicates of micro F1 (percent, mean over seeds): what the intervals of `intervals` are tested against."""
    weights = draw(evaluation.documents, cluster=evaluation.cluster, n_boot=n_boot, seed=seed)
    return 100 * weighted_f1(evaluation.counts, weights)


def weighted_f1(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Micro F1, mean over seeds, when each document counts as often as a row of `weights` says."""
    n_seeds, n_documents, _ = counts.shape
    totals = weights.astype(float) @ counts.transpose(1, 0, 2).reshape(n_documents, -1)
    return f1_of(totals.reshape(len(weights), n_seeds, 3)).mean(axis=1)
