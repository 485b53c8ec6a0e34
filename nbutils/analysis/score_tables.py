"""What a score is made of: exact and partial matches, and names that training has seen or has not, mean over seeds.

Knows runs and scores. The main table is `tables`', intervals and tests are `statistics`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from nbutils.corpus import Corpus
from nbutils.scoring.spans import (
    FREQUENCIES,
    PARTIAL_MODES,
    Scores,
    exact_scores,
    partial_scores,
    scores_by_frequency,
)
from nbutils.study.corpora import evaluation_corpus, split
from nbutils.study.file import Study
from nbutils.study.runs import Run

KEY = ["system", "train", "evaluate"]
SEEN = "seen (all but unseen)"


def partial_table(study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """F1 in percent of every system and setting, mean over seeds: exact, and with credit for a part three ways.

    `overlap`, `half` and `any` as in `scores.partial_scores`. The last column is what exact matching takes from `any`:
    names that were found, but not from their first to their last character.
    """
    rows = []
    for run, name, gold in _evaluated(study, runs, corpora):
        predicted = run.predictions(gold)
        partial = {f"{mode} (%)": 100 * partial_scores(gold, predicted, mode).f1 for mode in PARTIAL_MODES}
        rows.append(_place(study, run, name) | {"exact (%)": 100 * exact_scores(gold, predicted).f1} | partial)
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows).groupby(KEY, sort=False).mean()
    return table.assign(**{"any − exact (points)": table["any (%)"] - table["exact (%)"]})


def frequency_table(study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """Precision, recall and F1 in percent, mean over seeds, by how often training has marked the string of an entity.

    `gold (n)` counts the mentions of a class in the test notes. Precision counts the predictions of that class; a class
    without gold mentions or without predictions has the score that `scores` gives it.
    """
    rows = []
    for run, name, gold in _evaluated(study, runs, corpora):
        known = split(study, corpora[run.train])[0]
        found = scores_by_frequency(gold, run.predictions(gold), known)
        found[SEEN] = sum((s for name, s in found.items() if name != "unseen"), Scores(0, 0, 0, 0))
        for frequency in ("unseen", SEEN, *[f for f in FREQUENCIES if f != "unseen"]):
            s = found[frequency]
            rows.append(
                _place(study, run, name)
                | {"in training": frequency, "gold (n)": s.n_gold, "precision (%)": 100 * s.precision}
                | {"recall (%)": 100 * s.recall, "F1 (%)": 100 * s.f1}
            )
    if not rows:
        return pd.DataFrame()
    return pd.DataFrame(rows).groupby([*KEY, "in training"], sort=False).mean().astype({"gold (n)": int})


def _evaluated(study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus]) -> Iterable[tuple[Run, str, Corpus]]:
    """Every run that the study asks for with each of its evaluation corpora, in the study's order."""
    order = {(system.name, train, seed): k for k, (system, train, seed) in enumerate(study.runs())}
    mine = [run for run in runs if (run.system, run.train, run.seed) in order]
    for run in sorted(mine, key=lambda run: order[run.system, run.train, run.seed]):
        for name in study.evaluate:
            yield run, name, evaluation_corpus(study, corpora, run.train, name)


def _place(study: Study, run: Run, evaluate: str) -> dict[str, str]:
    return {"system": study.systems[run.system].title, "train": run.train, "evaluate": evaluate}
