"""Whether a tagger's probabilities mean what they say: reliability, calibration error, and what abstaining would buy.

Knows entities with a score. Knows only what was predicted: an entity that was missed has no probability to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from nbutils.corpus import Corpus
from nbutils.scoring.calibration import area_under_risk, expected_calibration_error, outcomes
from nbutils.study.corpora import evaluation_corpus
from nbutils.study.file import Study
from nbutils.study.runs import Run

KEYS = ["system", "train", "evaluate"]


# --- over runs ------------------------------------------------------------------------------------------------------


def outcomes_of_runs(study: Study, runs: Iterable[Run], corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    """`outcomes` of every run on every evaluation corpus, with system, train, evaluate and seed."""
    tables = []
    for run in runs:
        for name in study.evaluate if run.system in study.systems else ():
            gold = evaluation_corpus(study, corpora, run.train, name)
            table = outcomes(gold, run.predictions(gold))
            tables.append(table.assign(system=run.system, train=run.train, evaluate=name, seed=run.seed))
    columns = ["score", "correct", *KEYS, "seed"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def calibration_table(found: pd.DataFrame, n_bins: int = 10) -> pd.DataFrame:
    """For each system and setting, seeds pooled: entities, precision, mean probability, ECE and AURC, in percent."""
    rows = {}
    for key, mine in found.groupby(KEYS, sort=False):
        rows[key] = {
            "entities": len(mine),
            "precision (%)": 100 * mine["correct"].mean(),
            "mean probability (%)": 100 * mine["score"].mean(),
            "calibration error (points)": 100 * expected_calibration_error(mine, n_bins),
            "area under risk (%)": 100 * area_under_risk(mine),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(KEYS)
