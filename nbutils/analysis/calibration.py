"""Whether the probabilities of every system mean what they say; see `scoring.calibration`."""

from __future__ import annotations

import pandas as pd

from nbutils.scoring.calibration import area_under_risk, expected_calibration_error, outcomes
from nbutils.study.results import Results

KEYS = ["system", "train", "evaluate"]


def outcomes_of_runs(results: Results) -> pd.DataFrame:
    """`outcomes` of every run on every evaluation corpus, with system, train, evaluate and seed."""
    tables = []
    for s in results.scored():
        at = {key: value for key, value in s.place.items() if key != "setting"}
        tables.append(outcomes(s.gold, s.predicted).assign(**at))
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
