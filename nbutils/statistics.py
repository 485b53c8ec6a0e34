"""How sure one may be of F1, of the gap Δ and of differences between systems: tables of intervals and tests.

Knows evaluations by system, training and evaluation corpus; how they are drawn anew is `resampling`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd

from nbutils.corpus import Corpus, Prediction
from nbutils.resampling import Evaluation, document_counts, f1_interval, f1_of, is_crossed, micro_f1
from nbutils.runs import Run
from nbutils.scores import exact_scores
from nbutils.study import Study, evaluation_corpus, split

INTERVAL = ["95 % from", "95 % to"]
N_EXACT = 12  # up to so many documents or strata all swaps are tried, above that a sample of them

Key = tuple[str, str, str]  # system, training corpus, evaluation corpus


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


# --- tests -----------------------------------------------------------------------------------------------------------


def permutation_test(
    first: np.ndarray, second: np.ndarray, *, n_permutations: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Difference of micro F1 (first − second, mean over seeds) and its two-sided p from a paired permutation test.

    If the systems do not differ, whose prediction a document carries is chance: each document's predictions are
    swapped between the two, all seeds together, with probability ½. p = (1 + number of swaps with a difference at least
    as large) / (1 + number of swaps); for up to 12 documents all swaps are tried, and p is their exact share. A system
    with fewer seeds has them repeated, which leaves its mean as it is.

    Source: Noreen 1989, Computer-Intensive Methods for Testing Hypotheses (approximate randomisation); Yeh 2000 for
    F1; the 1 + of Phipson and Smyth 2010.
    """
    n_seeds = math.lcm(len(first), len(second))
    first, second = (np.tile(c, (n_seeds // len(c), 1, 1)).astype(float) for c in (first, second))
    exchange = (second - first).transpose(1, 0, 2).reshape(first.shape[1], -1)
    exact = first.shape[1] <= N_EXACT
    if exact:
        swaps = np.array(list(product([0.0, 1.0], repeat=first.shape[1])))
    else:
        swaps = np.random.default_rng(seed).integers(0, 2, (n_permutations, first.shape[1])).astype(float)
    moved = (swaps @ exchange).reshape(len(swaps), n_seeds, 3)
    after = f1_of(first.sum(axis=1) + moved).mean(axis=1) - f1_of(second.sum(axis=1) - moved).mean(axis=1)
    observed = micro_f1(first) - micro_f1(second)
    as_far = np.count_nonzero(np.abs(after) >= abs(observed) - 1e-12)
    p = as_far / len(swaps) if exact else (1 + as_far) / (1 + len(swaps))
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
        value, *bounds = f1_interval([(1, e)], n_boot=n_boot, seed=seed)
        rows.append(
            {"system": study.systems[system].title, "train": train, "evaluate": name, "documents": len(e.documents)}
            | {"seeds": len(e.counts), "drawn": "case × physician" if is_crossed(e.documents) else "document"}
            | {"F1 (%)": value} | dict(zip(INTERVAL, bounds, strict=True))
        )  # fmt: skip
    return _table(rows, ["system", "train", "evaluate"])


def gap_table(study: Study, evaluated: Mapping[Key, Evaluation], *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Δ = OOD − ID in percent points (the sign of Table 3) with its interval, and as a share of the ID score."""
    rows = []
    for system, train, name in _out_of_domain(evaluated):
        inside, outside = evaluated[system, train, train], evaluated[system, train, name]
        delta, *bounds = f1_interval([(1, outside), (-1, inside)], n_boot=n_boot, seed=seed)
        rows.append(
            {"system": study.systems[system].title, "train": train, "evaluate": name}
            | {"ID F1 (%)": inside.f1, "OOD F1 (%)": outside.f1, "Δ (points)": delta}
            | dict(zip(INTERVAL, bounds, strict=True))
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
        inside, outside = ([evaluated[s, train, where] for s in (first, second)] for where in (train, name))
        terms = [(1, outside[0]), (-1, inside[0]), (-1, outside[1]), (1, inside[1])]
        difference, low, high = f1_interval(terms, n_boot=n_boot, seed=seed)
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
        difference, *bounds = f1_interval([(1, a), (-1, b)], n_boot=n_boot, seed=seed)
        _, p = permutation_test(a.counts, b.counts, n_permutations=n_permutations, seed=seed)
        rows.append(
            {"first": study.systems[first].title, "second": study.systems[second].title, "train": train}
            | {"evaluate": name, "difference of F1 (points)": difference}
            | dict(zip(INTERVAL, bounds, strict=True)) | {"p": p}
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
        gap, *bounds = f1_interval([(1, away), (-1, home)], n_boot=n_boot, seed=seed)
        rows.append(
            {"system": study.systems[system].title, "target": target, "trained elsewhere": train}
            | {"documents": len(home.documents), "trained on target: F1 (%)": home.f1}
            | {"trained elsewhere: F1 (%)": away.f1, "gap (points)": gap}
            | dict(zip(INTERVAL, bounds, strict=True))
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


def _pairs(study: Study, evaluated: Mapping[Key, Evaluation]) -> Iterator[tuple[str, str, str, str]]:
    """(first system, second system, train, evaluate) wherever both have been run."""
    for train in study.train:
        for name in study.evaluate:
            for first, second in combinations(study.systems, 2):
                if (first, train, name) in evaluated and (second, train, name) in evaluated:
                    yield first, second, train, name
