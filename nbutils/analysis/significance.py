"""How sure one may be of F1, of the gap Δ and of differences between systems: tables of intervals and tests.

Knows evaluations by system, training and evaluation corpus; how they are drawn anew is `resampling`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from nbutils.corpus import Prediction
from nbutils.scoring.permutation import holm, permutation_test
from nbutils.scoring.resampling import Evaluation, document_counts, f1_interval, is_crossed
from nbutils.scoring.spans import exact_scores
from nbutils.study.file import Study
from nbutils.study.results import Results

INTERVAL = ["95 % from", "95 % to"]
Key = tuple[str, str, str]  # system, training corpus, evaluation corpus


def evaluations(results: Results) -> dict[Key, Evaluation]:
    """Counts by seed and document for every system, training and evaluation corpus, in the study's order."""
    counts: dict[Key, list[np.ndarray]] = {}
    for s in results.scored():
        counts.setdefault((s.run.system, s.run.train, s.evaluate), []).append(document_counts(s.gold, s.predicted))
    return {key: Evaluation(tuple(results.gold(*key[1:])), np.array(of_seeds)) for key, of_seeds in counts.items()}


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
    results: Results, evaluated: Mapping[Key, Evaluation], *, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """What training on the other corpus costs on the *same* target notes, with its interval.

    Gap = F1 trained elsewhere − F1 trained on the target, both on the in-domain test part of the target: the only notes
    of it that neither has trained on. Δ compares two different test sets, of which one may simply be the harder.
    """
    rows = []
    for system, train, target in _out_of_domain(evaluated):
        if (system, target, target) not in evaluated:
            continue
        home = evaluated[system, target, target]
        away = evaluated[system, train, target].on(home.documents)
        gap, *bounds = f1_interval([(1, away), (-1, home)], n_boot=n_boot, seed=seed)
        rows.append(
            {"system": results.study.systems[system].title, "target": target, "trained elsewhere": train}
            | {"documents": len(home.documents), "trained on target: F1 (%)": home.f1}
            | {"trained elsewhere: F1 (%)": away.f1, "gap (points)": gap}
            | dict(zip(INTERVAL, bounds, strict=True))
        )
    return _table(rows, ["system", "target", "trained elsewhere"])


def threshold_table(results: Results, thresholds: Iterable[float]) -> pd.DataFrame:
    """Precision, recall and F1 in percent, mean over seeds, when only entities of at least this probability are kept.

    An entity without a probability is always kept. Without any prediction precision is nan here, not 0 as in `scores`.
    """
    rows = []
    levels = list(thresholds)
    for scored in results.scored():
        predicted, run = scored.predicted, scored.run
        for level in levels:
            s = exact_scores(scored.gold, [_at_least(p, level) for p in predicted])
            precision = 100 * s.precision if s.n_predicted else math.nan
            rows.append((run.system, run.train, scored.evaluate, level, precision, 100 * s.recall, 100 * s.f1))
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
