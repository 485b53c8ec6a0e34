"""Scores by physician, by case, by hospital, and how much of their spread is whose (Figures 2 and 3 of the paper).

Where two groupings of the notes are crossed with one note a cell, the spread of note F1 can be divided between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from nbutils.analysis.significance import INTERVAL, Evaluated, above_floor
from nbutils.corpus import Corpus, Document
from nbutils.files import DataError
from nbutils.privacy import hidden, shown
from nbutils.scoring.evaluation import GROUPS, Evaluation, f1_of, groups
from nbutils.scoring.permutation import holm, spread_test
from nbutils.scoring.variance import component_draws, variance_components
from nbutils.study.file import Study


def in_setting(study: Study, evaluated: Evaluated, train: str, evaluate: str) -> dict[str, Evaluation]:
    """The evaluations of one setting, by system, without systems that find nothing.

    Raises:
        DataError: no run in this setting, or notes that are in no groups.
    """
    if not any(key[1:] == (train, evaluate) for key in evaluated):
        raise DataError(f"no finished run was trained on {train} and scored on {evaluate}; run `make study` first")
    counted = above_floor(evaluated)
    chosen = {s: counted[s, train, evaluate] for s in study.systems if (s, train, evaluate) in counted}
    if not chosen:
        raise DataError(f"no system that was trained on {train} finds anything in-domain; there is nothing to stratify")
    strata_of(next(iter(chosen.values())).documents, evaluate)
    return chosen


def strata_of(documents: Sequence[Document], corpus: str = "the corpus") -> list[str]:
    """The keys that divide the notes, each with two values at least: physician, case, hospital …

    Raises:
        DataError: there is none.
    """
    values = {key: {d.meta.get(key) or "" for d in documents} for key in GROUPS}
    keys = [key for key, of_key in values.items() if len(of_key) > 1 and "" not in of_key]
    if not keys:
        raise DataError(
            f"the notes of {corpus} cannot be stratified: a key such as physician, case or hospital must stand at each "
            "note and differ between some; name it in the notes' file or in a CSV (`meta:` in the study file)"
        )
    return keys


# --- scores by stratum -----------------------------------------------------------------------------------------------


def note_f1(evaluation: Evaluation) -> np.ndarray:
    """F1 of every note in percent, the mean over seeds."""
    return 100 * f1_of(evaluation.counts).mean(axis=0)


def strata_table(chosen: Mapping[str, Evaluation]) -> pd.DataFrame:
    """`stratum_table` by every key of the notes, one after the other."""
    keys = strata_of(next(iter(chosen.values())).documents)
    return pd.concat([stratum_table(chosen, by) for by in keys], ignore_index=True)


def stratum_table(chosen: Mapping[str, Evaluation], by: str) -> pd.DataFrame:
    """F1 of each system in each stratum, in percent: the mean of its notes' F1, and pooled over its entities.

    The paper averages over the notes of a stratum; pooling (micro F1, mean over seeds) gives long notes more weight.
    `logit` is log(F1 / (1 − F1)) of all its entities and seeds, half an entity added to both.
    """
    rows = []
    for system, evaluation in chosen.items():
        levels = [d.meta[by] for d in evaluation.documents]
        f1 = note_f1(evaluation)
        for level in sorted(set(levels)):
            inside = [k for k, name in enumerate(levels) if name == level]
            name = stratum_name(evaluation.documents[inside[0]], by)
            matched, predicted, gold = evaluation.counts[:, inside].sum(axis=(0, 1))
            rows.append(
                {"system": system, "by": by, "stratum": level, "name": name}
                | {"notes": len(inside), "entities": int(evaluation.counts[0, inside, 2].sum())}
                | {"mean of notes": f1[inside].mean()}
                | {"pooled": 100 * f1_of(evaluation.counts[:, inside].sum(axis=1)).mean()}
                | {"logit": np.log((2 * matched + 0.5) / (predicted + gold - 2 * matched + 0.5))}
            )
    return pd.DataFrame(rows)


def stratum_name(document: Document, by: str) -> str:
    """What a stratum is called where it is shown: a case by its title, others by the name in the file."""
    facts = shown(document).meta
    titled = by == "case" and not hidden(document.private)  # covered titles look alike
    return facts.get("title") or facts[by] if titled else facts[by]


def box_table(strata: pd.DataFrame, value: str = "mean of notes") -> pd.DataFrame:
    """What the box plots draw: quartiles, the ends of the whiskers, and the outliers by name."""
    rows = {}
    for (system, by), group in strata.groupby(["system", "by"], sort=False):
        values = group.set_index("name")[value]
        outside = outliers(values)
        inside = values[~outside]
        quartiles = dict(zip(("25 %", "median", "75 %"), values.quantile([0.25, 0.5, 0.75]), strict=True))
        named = ", ".join(f"{name} ({v:.1f})" for name, v in values[outside].items()) or "—"
        box = {"SD": values.std(), "whisker from": inside.min()} | quartiles | {"whisker to": inside.max()}
        rows[system, by] = box | {"outliers": named}
    table = pd.DataFrame(rows).T.rename_axis(["system", "by"])
    return table.astype(dict.fromkeys(table.columns.drop("outliers"), float))


def outliers(values: pd.Series) -> pd.Series:
    """Which values lie more than 1.5 interquartile ranges outside the quartiles (Tukey 1977), as in Figure 3."""
    low, high = values.quantile([0.25, 0.75])
    reach = 1.5 * (high - low)
    return (values < low - reach) | (values > high + reach)


def crossed_keys(documents: Sequence[Document], cluster: Sequence[str] | None = None) -> list[str]:
    """The two keys by which notes are crossed (rows and columns of a grid), or nothing where they are not."""
    keys = list(groups(documents, cluster))
    return keys if len(keys) == 2 and all(d.meta.get(key) for d in documents for key in keys) else []


def grid(evaluation: Evaluation) -> pd.DataFrame:
    """Note F1 (percent) as a physician × case grid; empty cells are nan, several notes in a cell are averaged."""
    return _pivot(evaluation.documents, note_f1(evaluation), crossed_keys(evaluation.documents, evaluation.cluster))


def corpus_grid(corpus: Corpus) -> pd.DataFrame:
    """Entities of each note as a physician × case grid: how the notes are stratified, before any system.

    Raises:
        DataError: the notes are not crossed.
    """
    keys = crossed_keys(corpus.documents)
    if not keys:
        raise DataError(f"the notes of {corpus.name} are not crossed by two keys, such as physician and case")
    return _pivot(corpus.documents, [len(d.entities) for d in corpus], keys)


def _pivot(documents: Sequence[Document], values: Sequence[float], keys: Sequence[str]) -> pd.DataFrame:
    rows = [(*(d.meta[key] for key in keys), v) for d, v in zip(documents, values, strict=True)]
    return pd.DataFrame(rows, columns=[*keys, "value"]).pivot_table("value", *keys)


# --- whose is the spread? --------------------------------------------------------------------------------------------


def component_table(
    study: Study, chosen: Mapping[str, Evaluation], *, n_boot: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Of each system's note F1: the SD due to physician, case and rest (points), 95 % interval, share of the variance.

    SDs, since these have the unit of F1; their squares add up. Empty where the notes are not crossed, one in each cell.
    """
    rows = []
    for system, evaluation in chosen.items():
        keys = crossed_keys(evaluation.documents, evaluation.cluster)
        cells = grid(evaluation).to_numpy() if keys else np.empty((0, 0))
        if min(cells.shape) < 2 or np.isnan(cells).any() or cells.size != len(evaluation.documents):
            continue
        variances = variance_components(cells)
        bounds = np.quantile(component_draws(cells, n_boot=n_boot, seed=seed), [0.025, 0.975], axis=0)
        for k, component in enumerate((*keys, "rest")):
            share = 100 * variances[k] / variances.sum() if variances.sum() else float("nan")
            rows.append(
                {"system": study.systems[system].title, "due to": component, "SD (points)": variances[k] ** 0.5}
                | dict(zip(INTERVAL, np.sqrt(bounds[:, k]), strict=True))
                | {"share of variance (%)": share}
            )
    return pd.DataFrame(rows).set_index(["system", "due to"]) if rows else pd.DataFrame()


def spread_table(study: Study, chosen: Mapping[str, Evaluation]) -> pd.DataFrame:
    """Does one system's score vary more over physicians (cases, hospitals) than another's? Pairs of the study first.

    On two scales: the mean F1 of the notes in points, and the logit of pooled F1, on which a low score is not steady
    for want of space. p is Pitman's and Morgan's, `p, swapped` of `spread_test` beside it. Holm's p is over the
    first key, both scales, of the pairs in `compare` (of all pairs, without any); other rows are exploratory.
    """
    rows = []
    asked = [pair for pair in study.compare if set(pair) <= set(chosen)]
    others = [pair for pair in combinations(chosen, 2) if pair not in asked and pair[::-1] not in asked]
    strata = strata_table(chosen)
    for pair in [*asked, *others]:
        for by in dict.fromkeys(strata["by"]):
            for scale in ("mean of notes", "logit"):
                values = strata[strata["by"] == by].pivot(index="stratum", columns="system", values=scale)
                test = spread_test(values[pair[0]], values[pair[1]])
                family = by == strata["by"].iloc[0] and (pair in asked or not study.compare)
                rows.append(
                    {"family": "asked" if family else "exploratory", "over": f"{by} ({len(values)})"}
                    | {"first": study.systems[pair[0]].title, "second": study.systems[pair[1]].title}
                    | {"scale": "F1 (points)" if scale == "mean of notes" else "logit of F1"}
                    | {"SD of first": test.sd_first, "SD of second": test.sd_second}
                    | {"p": test.p, "p, swapped": test.p_swapped}
                )  # fmt: skip
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(sorted(rows, key=lambda row: row["family"]))
    in_family = table["family"] == "asked"
    table["p (Holm)"] = pd.Series(holm(table["p"].where(in_family)), index=table.index)
    return table.set_index(["family", "over", "first", "second", "scale"])


def spread_verdict(study: Study, table: pd.DataFrame) -> str:
    """What the asked rows of `spread_table` say, in Markdown: for each pair whether the scales agree."""
    if table.empty or "asked" not in table.index.get_level_values("family"):
        return "No pair of systems is compared here."
    said = []
    for (over, first, second), rows in table.loc["asked"].groupby(level=["over", "first", "second"], sort=False):
        parts = []
        for (*_, scale), row in rows.iterrows():
            steadier = first if row["SD of first"] < row["SD of second"] else second
            verdict = f"{steadier} varies less" if row["p (Holm)"] < 0.05 else "these strata cannot tell"
            parts.append(f"on {scale}: SD {row['SD of first']:.2f} and {row['SD of second']:.2f}, "
                         f"p (Holm) {row['p (Holm)']:.4f}, {verdict}")  # fmt: skip
        said.append(f"- **{first} against {second}, over {over}:** {'; '.join(parts)}.")
    return "\n".join(said)
