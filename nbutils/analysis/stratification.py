"""Scores by physician and by case, and how much of their spread is whose (Figures 2 and 3 of the paper).

Knows evaluations on notes that name a case and a physician. Where these are crossed with one note a cell, the spread
of note F1 can be divided between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from nbutils.analysis.significance import INTERVAL, Key
from nbutils.corpus import Corpus, Document
from nbutils.scoring.permutation import holm, spread_test
from nbutils.scoring.evaluation import Evaluation, f1_of
from nbutils.scoring.variance import COMPONENTS, component_draws, variance_components
from nbutils.study.file import Study

STRATA = ("physician", "case")
def in_setting(study: Study, evaluated: Mapping[Key, Evaluation], train: str, evaluate: str) -> dict[str, Evaluation]:
    """The evaluations of one setting, by system.

    Raises:
        ValueError: no run in this setting, or notes without a case or a physician.
    """
    chosen = {s: evaluated[s, train, evaluate] for s in study.systems if (s, train, evaluate) in evaluated}
    if not chosen:
        raise ValueError(f"no finished run was trained on {train} and scored on {evaluate}; run `make study` first")
    for document in next(iter(chosen.values())).documents:
        if missing := [key for key in STRATA if key not in document.meta]:
            raise ValueError(f'document "{document.id}" of {evaluate} names no {missing[0]}; stratification needs both')
    return chosen


# --- scores by stratum -----------------------------------------------------------------------------------------------


def note_f1(evaluation: Evaluation) -> np.ndarray:
    """F1 of every note in percent, the mean over seeds."""
    return 100 * f1_of(evaluation.counts).mean(axis=0)


def note_table(chosen: Mapping[str, Evaluation]) -> pd.DataFrame:
    """One row a system and note: its physician, case, gold entities and F1 (percent, mean over seeds)."""
    rows = [
        {"system": system, "document": d.id, **{key: d.meta[key] for key in STRATA}, "title": d.meta.get("title", "")}
        | {"n_gold": len({e.key for e in d.entities}), "f1": f1}
        for system, evaluation in chosen.items()
        for d, f1 in zip(evaluation.documents, note_f1(evaluation), strict=True)
    ]
    return pd.DataFrame(rows)


def stratum_table(chosen: Mapping[str, Evaluation], by: str) -> pd.DataFrame:
    """F1 of each system in each stratum, in percent: the mean of its notes' F1, and pooled over its entities.

    The paper averages over the notes of a stratum; pooling (micro F1, mean over seeds) gives long notes more weight.
    """
    rows = []
    for system, evaluation in chosen.items():
        levels = [d.meta[by] for d in evaluation.documents]
        f1 = note_f1(evaluation)
        for level in sorted(set(levels)):
            mine = [k for k, name in enumerate(levels) if name == level]
            rows.append(
                {"system": system, "by": by, "stratum": level, "name": _name(evaluation.documents[mine[0]], by)}
                | {"notes": len(mine), "entities": int(evaluation.counts[0, mine, 2].sum())}
                | {"mean of notes": f1[mine].mean()}
                | {"pooled": 100 * f1_of(evaluation.counts[:, mine].sum(axis=1)).mean()}
            )
    return pd.DataFrame(rows)


def _name(document: Document, by: str) -> str:
    """What a stratum is called in a figure: a case by its title, a physician by the name in the file."""
    return document.meta.get("title") or document.meta[by] if by == "case" else document.meta[by]


def box_table(strata: pd.DataFrame, value: str = "mean of notes") -> pd.DataFrame:
    """What the box plots draw: quartiles, the ends of the whiskers, and the outliers by name."""
    rows = {}
    for (system, by), group in strata.groupby(["system", "by"], sort=False):
        values = group.set_index("name")[value]
        outside = outliers(values)
        inside = values[~outside]
        quartiles = dict(zip(("25 %", "median", "75 %"), values.quantile([0.25, 0.5, 0.75]), strict=True))
        rows[system, by] = {"SD": values.std(), "whisker from": inside.min(), **quartiles} | {
            "whisker to": inside.max(),
            "outliers": ", ".join(f"{name} ({v:.1f})" for name, v in values[outside].items()) or "—",
        }
    table = pd.DataFrame(rows).T
    table.index.names = ["system", "by"]
    return table.astype(dict.fromkeys(table.columns.drop("outliers"), float))


def outliers(values: pd.Series) -> pd.Series:
    """Which values lie more than 1.5 interquartile ranges outside the quartiles (Tukey 1977), as in Figure 3."""
    low, high = values.quantile([0.25, 0.75])
    reach = 1.5 * (high - low)
    return (values < low - reach) | (values > high + reach)


def grid(evaluation: Evaluation) -> pd.DataFrame:
    """Note F1 (percent) as a physician × case grid; empty cells are nan, several notes in a cell are averaged."""
    return _pivot(evaluation.documents, note_f1(evaluation))


def corpus_grid(corpus: Corpus) -> pd.DataFrame:
    """Entities of each note as a physician × case grid: how the notes are stratified, before any system.

    Raises:
        ValueError: a note without a case or a physician.
    """
    for document in corpus:
        if missing := [key for key in STRATA if key not in document.meta]:
            raise ValueError(f'document "{document.id}" of {corpus.name} names no {missing[0]}')
    return _pivot(corpus.documents, [len(d.entities) for d in corpus])


def _pivot(documents: Sequence[Document], values: Sequence[float]) -> pd.DataFrame:
    rows = [(d.meta["physician"], d.meta["case"], v) for d, v in zip(documents, values, strict=True)]
    return pd.DataFrame(rows, columns=["physician", "case", "value"]).pivot_table("value", "physician", "case")


# --- whose is the spread? --------------------------------------------------------------------------------------------


def component_table(
    study: Study, chosen: Mapping[str, Evaluation], *, n_boot: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Of each system's note F1: the SD due to physician, case and rest (points), 95 % interval, share of the variance.

    SDs, since these have the unit of F1; their squares add up.
    """
    rows = []
    for system, evaluation in chosen.items():
        cells = grid(evaluation).to_numpy()
        variances = variance_components(cells)
        bounds = np.quantile(component_draws(cells, n_boot=n_boot, seed=seed), [0.025, 0.975], axis=0)
        for k, component in enumerate(COMPONENTS):
            share = 100 * variances[k] / variances.sum() if variances.sum() else float("nan")
            rows.append(
                {"system": study.systems[system].title, "due to": component, "SD (points)": variances[k] ** 0.5}
                | dict(zip(INTERVAL, np.sqrt(bounds[:, k]), strict=True))
                | {"share of variance (%)": share}
            )
    return pd.DataFrame(rows).set_index(["system", "due to"])


def spread_table(study: Study, chosen: Mapping[str, Evaluation]) -> pd.DataFrame:
    """Every two systems, over physicians and over cases: SD of the stratum means, p, and Holm's p over the table."""
    rows = []
    for by in STRATA:
        means = stratum_table(chosen, by).pivot(index="stratum", columns="system", values="mean of notes")
        for first, second in combinations(chosen, 2):
            test = spread_test(means[first], means[second])
            rows.append(
                {"over": by, "first": study.systems[first].title, "second": study.systems[second].title}
                | {"SD of first (points)": test.sd_first, "SD of second (points)": test.sd_second, "p": test.p}
            )
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows).set_index(["over", "first", "second"])
    return table.assign(**{"p (Holm)": holm(table["p"])})
