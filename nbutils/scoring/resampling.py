"""Scores as counts by document, drawn anew: bootstrap replicates of F1, standard errors, and intervals that cover.

Knows counts (matched, predicted, gold) for each seed and document of a system. Draws whole documents, since the lines
of one note are not independent; the seeds that were run are averaged over and not drawn.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from nbutils.corpus import Document, Prediction
from nbutils.scoring.spans import exact_document, pair

CROSSED = ("case", "physician")  # what a note must name so that both are drawn
# Physicians (or cases) whose variance is below so many times that of single notes are taken not to differ: a pooling
# rule after a preliminary test (Bancroft 1964, Biometrics 20(3)), near the 80 % point of F for ten of them. With fewer
# than so many notes a physician the ratio says too little for that, and whatever is above one counts.
POOLED_BELOW, NOTES_TO_POOL = 1.35, 5


@dataclass(frozen=True)
class Evaluation:
    """One system on some documents: `counts[seed, document]` is (matched, predicted, gold)."""

    documents: tuple[Document, ...]
    counts: np.ndarray

    @property
    def f1(self) -> float:
        """Micro F1 in percent, averaged over seeds."""
        return 100 * micro_f1(self.counts)

    def on(self, documents: Iterable[Document]) -> Evaluation:
        """The same predictions on some of the documents only, in the order given."""
        place = {d.id: k for k, d in enumerate(self.documents)}
        chosen = tuple(documents)
        return replace(self, documents=chosen, counts=self.counts[:, [place[d.id] for d in chosen]])


def document_counts(gold: Iterable[Document], predicted: Iterable[Prediction]) -> np.ndarray:
    """(matched, predicted, gold) entities of every gold document, exact spans; shape (documents, 3)."""
    each = [exact_document(d.entities, p.entities) for d, p in pair(gold, predicted)]
    return np.array([(s.matched_gold, s.n_predicted, s.n_gold) for s in each], dtype=float).reshape(-1, 3)


def f1_of(counts: np.ndarray) -> np.ndarray:
    """F1 = 2·matched / (predicted + gold) along the last axis; with nothing on either side it is 1, as in `scores`."""
    total = counts[..., 1] + counts[..., 2]
    return np.where(total > 0, 2 * counts[..., 0] / np.maximum(total, 1), 1.0)


def micro_f1(counts: np.ndarray) -> float:
    """F1 of the counts summed over documents, then the mean over seeds."""
    return float(f1_of(counts.sum(axis=-2)).mean())


# --- intervals -------------------------------------------------------------------------------------------------------


def is_crossed(documents: Sequence[Document]) -> bool:
    """Whether every note names its case and its physician, with at least two of each."""
    return all(all(k in d.meta for d in documents) and len({d.meta[k] for d in documents}) > 1 for k in CROSSED)


def draw_documents(n_documents: int, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """How often each document is drawn when as many are drawn with replacement; shape (n_boot, documents).

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap.
    """
    chosen = rng.integers(0, n_documents, (n_boot, n_documents)) + n_documents * np.arange(n_boot)[:, None]
    return np.bincount(chosen.ravel(), minlength=n_boot * n_documents).reshape(n_boot, n_documents)


def draw_two_way(documents: Sequence[Document], n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """How often each note is drawn when cases and physicians are each drawn with replacement: the product of the two.

    Notes of one physician resemble each other, and so do notes of one case; drawing notes alone would call the result
    surer than it is. Where neither matters it is wider than need be (the variance of a note counts up to three times).
    A draw without any note, possible when most cells are empty, is drawn again.

    Source: Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1(2).
    """
    codes = [np.unique([d.meta[key] for d in documents], return_inverse=True)[1] for key in CROSSED]
    weights = np.zeros((n_boot, len(documents)), dtype=int)
    empty = np.arange(n_boot)
    while len(empty):
        rows, columns = (draw_documents(code.max() + 1, len(empty), rng)[:, code] for code in codes)
        weights[empty] = rows * columns
        empty = np.flatnonzero(weights.sum(axis=1) == 0)
    return weights


def bootstrap(evaluation: Evaluation, *, n_boot: int = 1000, seed: int = 0) -> np.ndarray:
    """Replicates of micro F1 (percent, mean over seeds): two-way for crossed notes, by document for all others.

    The draw depends on `seed` and the documents alone. So two evaluations on the same documents are drawn alike, and
    the difference of their replicates is that of a paired comparison; those on different documents are independent.
    """
    return 100 * weighted_f1(evaluation.counts, draw(evaluation.documents, n_boot=n_boot, seed=seed))


def draw(documents: Sequence[Document], *, n_boot: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each document is drawn in each replicate; shape (n_boot, documents)."""
    rng = np.random.default_rng([seed, zlib.crc32("\n".join(d.id for d in documents).encode())])
    if is_crossed(documents):
        return draw_two_way(documents, n_boot, rng)
    return draw_documents(len(documents), n_boot, rng)


def weighted_f1(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Micro F1, mean over seeds, when each document counts as often as a row of `weights` says."""
    n_seeds, n_documents, _ = counts.shape
    totals = weights.astype(float) @ counts.transpose(1, 0, 2).reshape(n_documents, -1)
    return f1_of(totals.reshape(len(weights), n_seeds, 3)).mean(axis=1)


def f1_interval(
    terms: Sequence[tuple[float, Evaluation]], *, n_boot: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """A signed sum of F1s in points with its 95 % interval: (value, from, to).

    `terms` are (sign, evaluation): ((1, e),) is F1, ((1, ood), (-1, id)) is Δ, four of them a difference of two Δ.
    The interval is made of percentiles of the bootstrap replicates. Which percentiles, a standard error says: plain
    2.5 % are too narrow for few documents, and far too wide for crossed notes that resemble each other little, since a
    two-way draw counts the variance of a single note three times. The tail is Φ(−t · SE / SD of the replicates), with
    the 97.5 % point t of Student's distribution (`standard_error`).

    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69(4), for the
    expanded percentiles; the same correction towards a smaller standard error is ours. `python -m tools.interval_coverage`
    prints how often such intervals hold the truth.
    """
    value = sum(sign * e.f1 for sign, e in terms)
    samples = {_ids(e): e.documents for _, e in terms}
    drawn = {ids: draw(documents, n_boot=n_boot, seed=seed) for ids, documents in samples.items()}
    replicates = 100 * sum(sign * weighted_f1(e.counts, drawn[_ids(e)]) for sign, e in terms)
    error, freedom = standard_error(terms)
    spread = float(np.std(replicates))
    if not error or not spread:
        return value, *map(float, np.quantile(replicates, [0.025, 0.975]))
    tail = float(stats.norm.cdf(-stats.t.ppf(0.975, freedom) * error / spread))
    return value, *map(float, np.quantile(replicates, [tail, 1 - tail]))


def standard_error(terms: Sequence[tuple[float, Evaluation]]) -> tuple[float, float]:
    """Standard error (points) of a signed sum of F1s, and its degrees of freedom.

    F1 is linearised: a document moves it by u = (2·matched − F1·(predicted + gold)) / (predicted + gold of all). Terms
    on the same documents are added document by document, as in a paired comparison; the rest is independent, and its
    variances add. For notes drawn one by one the variance is n/(n − 1)·Σu², with n − 1 degrees of freedom. For crossed
    notes it is V(physicians) + V(cases) − V(notes), each of them the same formula for the sums of u over its groups;
    where physicians or cases differ by little more than single notes do (`POOLED_BELOW`), they are left out (and
    V(notes) alone is left when both are). Degrees of freedom of a sum are Satterthwaite's, (ΣV)² / Σ(V²/df).

    Source: Cameron, Gelbach and Miller 2011, Robust Inference With Multiway Clustering, Journal of Business & Economic
    Statistics 29(2); Satterthwaite 1946, Biometrics Bulletin 2(6).
    """
    samples: dict[tuple[str, ...], tuple[tuple[Document, ...], np.ndarray]] = {}
    for sign, e in terms:
        key = _ids(e)
        before = samples[key][1] if key in samples else 0.0
        samples[key] = (e.documents, before + sign * _influence(e.counts))
    parts = [part for documents, u in samples.values() for part in _variances(documents, u)]
    variance = sum(v for v, _ in parts)
    if variance <= 0:
        return 0.0, 1.0
    return math.sqrt(variance), variance**2 / sum(v**2 / freedom for v, freedom in parts if freedom)


def _ids(evaluation: Evaluation) -> tuple[str, ...]:
    return tuple(d.id for d in evaluation.documents)


def _influence(counts: np.ndarray) -> np.ndarray:
    """How far each document moves F1 (points, mean over seeds); shape (documents,)."""
    total = (counts[..., 1] + counts[..., 2]).sum(axis=1, keepdims=True)
    f1 = 2 * counts[..., 0].sum(axis=1, keepdims=True) / np.maximum(total, 1)
    return 100 * ((2 * counts[..., 0] - f1 * (counts[..., 1] + counts[..., 2])) / np.maximum(total, 1)).mean(axis=0)


def _variances(documents: Sequence[Document], u: np.ndarray) -> list[tuple[float, float]]:
    """(variance, degrees of freedom) of the parts of Var(Σu); the part that is taken off has none of its own."""
    notes = _grouped(u, np.arange(len(u)))
    if not is_crossed(documents):
        return [notes]
    groups = [_grouped(u, np.unique([d.meta[key] for d in documents], return_inverse=True)[1]) for key in CROSSED]
    kept = [group for group in groups if group[0] > _least_ratio(len(u), group) * notes[0]]
    if not kept:
        return [notes]
    return [*kept, (-notes[0], 0.0)] if len(kept) > 1 else kept


def _least_ratio(n_notes: int, group: tuple[float, float]) -> float:
    return POOLED_BELOW if n_notes >= NOTES_TO_POOL * (group[1] + 1) else 1.0


def _grouped(u: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    n = int(group.max()) + 1
    if n < 2:
        return 0.0, 0.0
    return n / (n - 1) * float((np.bincount(group, u) ** 2).sum()), n - 1
