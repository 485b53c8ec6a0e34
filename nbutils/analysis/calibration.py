"""Whether the probabilities of every system mean what they say, and what a threshold on them buys."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from nbutils.analysis.significance import INTERVAL
from nbutils.corpus import Prediction
from nbutils.scoring.calibration import area_under_risk, brier_score, expected_calibration_error, outcomes
from nbutils.scoring.resampling import draw
from nbutils.scoring.spans import exact_scores
from nbutils.study.results import Results

KEYS = ["system", "train", "evaluate"]


def outcomes_of_runs(results: Results, nothing: Collection[str] = ()) -> pd.DataFrame:
    """`outcomes` of every run on every evaluation corpus, with system, train, evaluate and seed, but for `nothing`."""
    tables = []
    for s in results.scored():
        at = {key: value for key, value in s.place.items() if key != "setting"}
        if s.run.system not in nothing:
            tables.append(outcomes(s.gold, s.predicted).assign(**at))
    columns = ["document", "score", "correct", *KEYS, "seed"]
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def calibration_table(
    results: Results, entities: pd.DataFrame, *, n_bins: int = 10, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """For each system and setting the mean over its runs: entities, precision, mean probability, and how far off it is.

    `too certain by` is mean probability − precision, with its 95 % interval over notes (groups of notes drawn as in
    `resampling.draw`, all runs together); below 0 the system is less certain than it may be. The Brier score is the
    mean squared error of the probability. Needs `outcomes_of_runs`.
    """
    rows = {}
    drawn: dict[tuple[str, str], np.ndarray] = {}  # the same notes of a setting for every system
    for key, some in entities.groupby(KEYS, sort=False):
        runs = [run for _, run in some.groupby("seed")]
        means = pd.DataFrame(
            [(len(run), run["correct"].mean(), run["score"].mean(), brier_score(run),
              expected_calibration_error(run, n_bins), area_under_risk(run)) for run in runs]
        ).mean()  # fmt: skip
        gold = tuple(results.gold(*key[1:]))
        if key[1:] not in drawn:
            drawn[key[1:]] = draw(gold, cluster=results.study.cluster, n_boot=n_boot, seed=seed)
        weights, ids = drawn[key[1:]], [d.id for d in gold]
        sums = some.assign(over=some["score"] - some["correct"]).groupby("document")["over"].agg(["sum", "size"])
        over, n = (weights @ sums[column].reindex(ids, fill_value=0).to_numpy(float) for column in ("sum", "size"))
        low, high = np.quantile(100 * over[n > 0] / n[n > 0], [0.025, 0.975])
        rows[key] = (
            {"entities a run": round(means[0]), "precision (%)": 100 * means[1], "mean probability (%)": 100 * means[2]}
            | {"too certain by (points)": 100 * (means[2] - means[1])}
            | dict(zip(INTERVAL, (low, high), strict=True))
            | {"Brier score": means[3], "calibration error (points)": 100 * means[4]}
            | {"area under risk (%)": 100 * means[5]}
        )
    index = pd.MultiIndex.from_frame(pd.DataFrame(list(rows), columns=KEYS))  # empty where nobody gives a probability
    return pd.DataFrame(list(rows.values()), index=index)


def threshold_table(results: Results, thresholds: Iterable[float], nothing: Collection[str] = ()) -> pd.DataFrame:
    """Precision, recall and F1 in percent, mean over seeds, when only entities of at least this probability are kept.

    Systems that give no probabilities and those of `nothing` are left out. Without any prediction precision is nan
    here, not 0 as in `spans`.
    """
    rows = []
    levels = list(thresholds)
    for scored in results.scored():
        predicted, run = scored.predicted, scored.run
        if run.system in nothing or all(e.score is None for p in predicted for e in p.entities):
            continue
        for level in levels:
            s = exact_scores(scored.gold, [_at_least(p, level) for p in predicted])
            precision = 100 * s.precision if s.n_predicted else math.nan
            rows.append((run.system, run.train, scored.evaluate, level, precision, 100 * s.recall, 100 * s.f1))
    columns = [*KEYS, "threshold", "precision", "recall", "f1"]
    return pd.DataFrame(rows, columns=columns).groupby(columns[:4], sort=False).mean().reset_index()


def _at_least(prediction: Prediction, level: float) -> Prediction:
    return replace(prediction, entities=tuple(e for e in prediction.entities if e.score is None or e.score >= level))
