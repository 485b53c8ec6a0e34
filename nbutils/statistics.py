"""How sure one may be of F1, of the gap Δ and of differences between systems.

Knows counts by document (matched, predicted, gold), for each seed of a system. Resamples whole documents, since the
lines of one note are not independent; the seeds that were run are averaged over and not resampled.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from nbutils.corpus import Corpus, Document, Prediction
from nbutils.runs import Run
from nbutils.scores import exact_document, exact_scores, pair
from nbutils.study import Study, evaluation_corpus, split

INTERVAL = ["95 % from", "95 % to"]
CROSSED = ("case", "physician")  # what a note must name so that both are resampled

Key = tuple[str, str, str]  # system, training corpus, evaluation corpus


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


def evaluations(study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus]) -> dict[Key, Evaluation]:
    """Counts by seed and document for every system, training and evaluation corpus, in the study's order."""
    found: dict[Key, list[np.ndarray]] = {}
    for run in runs:
        if run.system in study.systems:
            for name in study.evaluate:
                gold = evaluation_corpus(study, corpora, run.train, name)
                counts = document_counts(gold, run.predictions(gold))
                found.setdefault((run.system, run.train, name), []).append(counts)
    order = [(s, t, e) for s in study.systems for t in study.train for e in study.evaluate]
    return {
        key: Evaluation(tuple(evaluation_corpus(study, corpora, key[1], key[2])), np.array(found[key]))
        for key in order
        if key in found
    }


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
    return rng.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=n_boot)


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
    documents = evaluation.documents
    rng = np.random.default_rng([seed, zlib.crc32("\n".join(d.id for d in documents).encode())])
    if is_crossed(documents):
        weights = draw_two_way(documents, n_boot, rng)
    else:
        weights = draw_documents(len(documents), n_boot, rng)
    return 100 * weighted_f1(evaluation.counts, weights)


def weighted_f1(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Micro F1, mean over seeds, when each document counts as often as a row of `weights` says."""
    n_seeds, n_documents, _ = counts.shape
    totals = weights.astype(float) @ counts.transpose(1, 0, 2).reshape(n_documents, -1)
    return f1_of(totals.reshape(len(weights), n_seeds, 3)).mean(axis=1)


def interval(replicates: np.ndarray, *evaluated: Evaluation) -> tuple[float, float]:
    """95 % percentile interval of bootstrap replicates of a quantity that was computed from these evaluations.

    Percentiles are too narrow for few documents: by sqrt((n − 1)/n), and by the normal in place of Student's t. So the
    tail is Φ(−sqrt(n/(n − 1))·t), with the 97.5 % point t of n − 1 degrees of freedom, n the documents of the smallest
    sample that was drawn by document. Two-way draws are on the wide side already and keep 2.5 %.

    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69(4).
    """
    sizes = [len(e.documents) for e in evaluated if not is_crossed(e.documents)]
    tail = 0.025
    if sizes and min(sizes) > 1:
        n = min(sizes)
        tail = float(stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1)))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


# --- tests -----------------------------------------------------------------------------------------------------------


def permutation_test(
    first: np.ndarray, second: np.ndarray, *, n_permutations: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Difference of micro F1 (first − second, mean over seeds) and its two-sided p from a paired permutation test.

    If the systems do not differ, whose prediction a document carries is chance: each document's predictions are
    swapped between the two, all seeds together, with probability ½. p = (1 + number of swaps with a difference at least
    as large) / (1 + number of swaps). A system with fewer seeds has them repeated, which leaves its mean as it is.

    Source: Noreen 1989, Computer-Intensive Methods for Testing Hypotheses (approximate randomisation); Yeh 2000 for
    F1; the 1 + of Phipson and Smyth 2010.
    """
    n_seeds = math.lcm(len(first), len(second))
    first, second = (np.tile(c, (n_seeds // len(c), 1, 1)).astype(float) for c in (first, second))
    exchange = (second - first).transpose(1, 0, 2).reshape(first.shape[1], -1)
    swaps = np.random.default_rng(seed).integers(0, 2, (n_permutations, first.shape[1])).astype(float)
    moved = (swaps @ exchange).reshape(n_permutations, n_seeds, 3)
    after = f1_of(first.sum(axis=1) + moved).mean(axis=1) - f1_of(second.sum(axis=1) - moved).mean(axis=1)
    observed = micro_f1(first) - micro_f1(second)
    p = (1 + np.count_nonzero(np.abs(after) >= abs(observed) - 1e-12)) / (1 + n_permutations)
    return observed, float(p)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p of a family of tests: the k-th smallest of m times m − k + 1, never below a smaller one's, at most 1.

    Rejecting where it is at most α keeps the chance of any false rejection in the family at α, whatever the dependence.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


# --- tables ----------------------------------------------------------------------------------------------------------


def f1_table(study: Study, evaluated: Mapping[Key, Evaluation], *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """F1 of each system and setting with its bootstrap interval, in percent."""
    rows = []
    for (system, train, name), e in evaluated.items():
        bounds = interval(bootstrap(e, n_boot=n_boot, seed=seed), e)
        rows.append(
            {"system": study.systems[system].title, "train": train, "evaluate": name, "documents": len(e.documents)}
            | {"seeds": len(e.counts), "drawn": "case × physician" if is_crossed(e.documents) else "document"}
            | {"F1 (%)": e.f1} | dict(zip(INTERVAL, bounds, strict=True))
        )  # fmt: skip
    return _table(rows, ["system", "train", "evaluate"])


def gap_table(study: Study, evaluated: Mapping[Key, Evaluation], *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Δ = OOD − ID in percent points (the sign of Table 3) with its interval, and as a share of the ID score."""
    rows = []
    for system, train, name in _out_of_domain(evaluated):
        inside, outside = evaluated[system, train, train], evaluated[system, train, name]
        drawn = _gap_replicates(evaluated, (system, train, name), n_boot, seed)
        delta = outside.f1 - inside.f1
        rows.append(
            {"system": study.systems[system].title, "train": train, "evaluate": name}
            | {"ID F1 (%)": inside.f1, "OOD F1 (%)": outside.f1, "Δ (points)": delta}
            | dict(zip(INTERVAL, interval(drawn, inside, outside), strict=True))
            | {"Δ, % of ID": 100 * delta / inside.f1 if inside.f1 else math.nan}
        )
    return _table(rows, ["system", "train", "evaluate"])


def gap_difference_table(
    study: Study, evaluated: Mapping[Key, Evaluation], *, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Δ of one system less Δ of another, both on the same documents, with its interval: who loses less, and how surely.

    A positive difference says that the first loses less. The documents are drawn alike for both systems.
    """
    rows = []
    for first, second, train, name in _pairs(study, evaluated):
        if name == train or not all((system, train, train) in evaluated for system in (first, second)):
            continue
        drawn = [_gap_replicates(evaluated, (system, train, name), n_boot, seed) for system in (first, second)]
        inside, outside = ([evaluated[s, train, where] for s in (first, second)] for where in (train, name))
        low, high = interval(drawn[0] - drawn[1], *inside, *outside)
        difference = (outside[0].f1 - inside[0].f1) - (outside[1].f1 - inside[1].f1)
        rows.append(
            {"first": study.systems[first].title, "second": study.systems[second].title, "train": train}
            | {"evaluate": name, "difference of Δ (points)": difference}
            | dict(zip(INTERVAL, (low, high), strict=True)) | {"leaves out 0": low > 0 or high < 0}
        )  # fmt: skip
    return _table(rows, ["first", "second", "train", "evaluate"])


def comparison_table(
    study: Study,
    evaluated: Mapping[Key, Evaluation],
    *,
    n_boot: int = 1000,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every two systems in every setting: difference of F1, interval, permutation p, and Holm's p over the table."""
    rows = []
    for first, second, train, name in _pairs(study, evaluated):
        a, b = evaluated[first, train, name], evaluated[second, train, name]
        drawn = bootstrap(a, n_boot=n_boot, seed=seed) - bootstrap(b, n_boot=n_boot, seed=seed)
        difference, p = permutation_test(a.counts, b.counts, n_permutations=n_permutations, seed=seed)
        rows.append(
            {"first": study.systems[first].title, "second": study.systems[second].title, "train": train}
            | {"evaluate": name, "difference of F1 (points)": 100 * difference}
            | dict(zip(INTERVAL, interval(drawn, a, b), strict=True)) | {"p": p}
        )  # fmt: skip
    table = _table(rows, ["first", "second", "train", "evaluate"])
    return table.assign(**{"p (Holm)": holm(table["p"])}) if len(table) else table


def target_matched_table(
    study: Study,
    evaluated: Mapping[Key, Evaluation],
    corpora: Mapping[str, Corpus],
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """What training on the other corpus costs on the *same* target notes, with its interval.

    Gap = F1 trained elsewhere − F1 trained on the target, both on the in-domain test part of the target: the only notes
    of it that neither has trained on. Δ compares two different test sets, of which one may simply be the harder.
    """
    rows = []
    for system, train, target in _out_of_domain(evaluated):
        if (system, target, target) not in evaluated:
            continue
        home = evaluated[system, target, target].on(split(study, corpora[target])[1])
        away = evaluated[system, train, target].on(home.documents)
        drawn = bootstrap(away, n_boot=n_boot, seed=seed) - bootstrap(home, n_boot=n_boot, seed=seed)
        rows.append(
            {"system": study.systems[system].title, "target": target, "trained elsewhere": train}
            | {"documents": len(home.documents), "trained on target: F1 (%)": home.f1}
            | {"trained elsewhere: F1 (%)": away.f1, "gap (points)": away.f1 - home.f1}
            | dict(zip(INTERVAL, interval(drawn, home, away), strict=True))
        )
    return _table(rows, ["system", "target", "trained elsewhere"])


def threshold_table(
    study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus], thresholds: Iterable[float]
) -> pd.DataFrame:
    """Precision, recall and F1 in percent, mean over seeds, when only entities of at least this probability are kept.

    An entity without a probability is always kept. Without any prediction precision is nan here, not 0 as in `scores`.
    """
    rows = []
    levels = list(thresholds)
    for run in runs:
        for name in study.evaluate if run.system in study.systems else ():
            gold = evaluation_corpus(study, corpora, run.train, name)
            predicted = run.predictions(gold)
            for level in levels:
                s = exact_scores(gold, [_at_least(p, level) for p in predicted])
                precision = 100 * s.precision if s.n_predicted else math.nan
                rows.append((run.system, run.train, name, level, precision, 100 * s.recall, 100 * s.f1))
    columns = ["system", "train", "evaluate", "threshold", "precision", "recall", "f1"]
    return pd.DataFrame(rows, columns=columns).groupby(columns[:4], sort=False).mean().reset_index()


def _at_least(prediction: Prediction, level: float) -> Prediction:
    return replace(prediction, entities=tuple(e for e in prediction.entities if e.score is None or e.score >= level))


def _table(rows: list[dict], index: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows).set_index(index) if rows else pd.DataFrame()


def _out_of_domain(evaluated: Mapping[Key, Evaluation]) -> list[Key]:
    return [(s, t, e) for s, t, e in evaluated if e != t and (s, t, t) in evaluated]


def _gap_replicates(evaluated: Mapping[Key, Evaluation], key: Key, n_boot: int, seed: int) -> np.ndarray:
    system, train, _ = key
    inside, outside = evaluated[system, train, train], evaluated[key]
    return bootstrap(outside, n_boot=n_boot, seed=seed) - bootstrap(inside, n_boot=n_boot, seed=seed)


def _pairs(study: Study, evaluated: Mapping[Key, Evaluation]) -> Iterator[tuple[str, str, str, str]]:
    """(first system, second system, train, evaluate) wherever both have been run."""
    for train in study.train:
        for name in study.evaluate:
            for first, second in combinations(study.systems, 2):
                if (first, train, name) in evaluated and (second, train, name) in evaluated:
                    yield first, second, train, name
