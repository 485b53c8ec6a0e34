"""Whether a tagger's probabilities mean what they say: reliability, calibration error, and what abstaining would buy.

Knows entities with a score. Knows only what was predicted: an entity that was missed has no probability to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nbutils.corpus import Corpus, Document, Prediction
from nbutils.plots import system_styles, use_style
from nbutils.runs import Run
from nbutils.scores import pair
from nbutils.study import Study, evaluation_corpus

KEYS = ["system", "train", "evaluate"]


def outcomes(gold: Iterable[Document], predicted: Iterable[Prediction]) -> pd.DataFrame:
    """One row a predicted entity that has a probability: `score` (0 … 1) and whether it is `correct` (exact match)."""
    rows = []
    for document, prediction in pair(gold, predicted):
        keys = {e.key for e in document.entities}
        rows += [(float(e.score), e.key in keys) for e in prediction.entities if e.score is not None]
    return pd.DataFrame(rows, columns=["score", "correct"]).astype({"score": float, "correct": bool})


def reliability(found: pd.DataFrame, n_bins: int = 10) -> pd.DataFrame:
    """The reliability diagram as a table: by bins of equal width, mean probability and share of correct entities.

    A score of exactly 1 belongs to the last bin. Empty bins are left out.

    Source: DeGroot and Fienberg 1983; Guo et al. 2017 (equal-width bins).
    """
    number = np.minimum((found["score"].to_numpy() * n_bins).astype(int), n_bins - 1)
    grouped = found.groupby(number)
    table = grouped.agg(probability=("score", "mean"), correct=("correct", "mean"), n=("correct", "size"))
    table.insert(0, "from", table.index / n_bins)
    table.insert(1, "to", (table.index + 1) / n_bins)
    return table.reset_index(drop=True)


def expected_calibration_error(found: pd.DataFrame, n_bins: int = 10) -> float:
    """Mean distance of probability and share of correct entities over the bins, weighted by size; nan without entities.

    Source: Naeini et al. 2015; Guo et al. 2017.
    """
    table = reliability(found, n_bins)
    if table.empty:
        return float("nan")
    return float(np.average((table["probability"] - table["correct"]).abs(), weights=table["n"]))


def risk_coverage(found: pd.DataFrame) -> pd.DataFrame:
    """What is left when the unsurest entities go to a person: the share kept (coverage) and how many of them are wrong.

    One row a distinct probability, the surest first; entities of equal probability are kept or left together.

    Source: El-Yaniv and Wiener 2010.
    """
    ordered = found.sort_values("score", ascending=False)
    kept = np.arange(1, len(ordered) + 1)
    wrong = (~ordered["correct"].to_numpy(dtype=bool)).cumsum()
    last = ~ordered["score"].duplicated(keep="last").to_numpy()
    table = pd.DataFrame({"threshold": ordered["score"].to_numpy(), "coverage": kept / max(len(ordered), 1),
                          "risk": wrong / kept})  # fmt: skip
    return table[last].reset_index(drop=True)


def area_under_risk(found: pd.DataFrame) -> float:
    """Mean risk over all coverages (AURC; lower is better), each distinct probability weighted by its entities."""
    table = risk_coverage(found)
    if table.empty:
        return float("nan")
    return float(np.average(table["risk"], weights=np.diff(table["coverage"], prepend=0)))


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


def figure(study: Study, found: pd.DataFrame, n_bins: int = 10) -> Figure:
    """Above the reliability diagram, below risk against coverage; a column a setting. Needs `outcomes_of_runs`."""
    use_style()
    settings = [(t, e) for t in study.train for e in sorted(study.evaluate, key=lambda e: e != t)]
    drawn, panels = plt.subplots(2, len(settings), figsize=(3.1 * len(settings), 6.4), sharey="row", squeeze=False)
    for (above, below), (train, evaluate) in zip(panels.T, settings, strict=True):
        above.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--")
        for name, (colour, _) in system_styles(study).items():
            mine = found.query("system == @name and train == @train and evaluate == @evaluate")
            bins, curve = reliability(mine, n_bins), risk_coverage(mine)
            title = study.systems[name].title
            above.plot(bins["probability"], bins["correct"], "o-", color=colour, markersize=4, label=title)
            below.plot(curve["coverage"], curve["risk"], color=colour)
        above.set(title=f"{train} → {evaluate}", xlabel="probability", xlim=(0, 1.03))
        below.set(xlabel="coverage (share kept)", xlim=(0, 1.03))
    panels[0, 0].set(ylabel="share correct", ylim=(-0.03, 1.03))
    panels[1, 0].set(ylabel="risk (share wrong)", ylim=(-0.03, 1.03))
    drawn.suptitle(_finding(found), x=0.01, ha="left")
    drawn.tight_layout()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0))
    return drawn


def _finding(found: pd.DataFrame) -> str:
    means = (
        found.groupby(KEYS)[["score", "correct"]].mean() if len(found) else pd.DataFrame(columns=["score", "correct"])
    )
    return f"Too sure of themselves in {int((means['score'] > means['correct']).sum())} of {len(means)} settings"
