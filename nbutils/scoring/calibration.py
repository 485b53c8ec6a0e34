"""How far an entity's score can be believed: reliability, calibration error and risk by coverage."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from nbutils.corpus import Document, Prediction
from nbutils.scoring.spans import pair


def outcomes(gold: Iterable[Document], predicted: Iterable[Prediction]) -> pd.DataFrame:
    """One row per predicted entity with a probability: its `document`, `score` (0 … 1) and whether it is `correct`."""
    rows = []
    for document, prediction in pair(gold, predicted):
        keys = {e.key for e in document.entities}
        rows += [(document.id, float(e.score), e.key in keys) for e in prediction.entities if e.score is not None]
    return pd.DataFrame(rows, columns=["document", "score", "correct"]).astype({"score": float, "correct": bool})


def reliability(entities: pd.DataFrame, n_bins: int = 10) -> pd.DataFrame:
    """The reliability diagram as a table: by bins of equal width, mean probability and share of correct entities.

    A score of exactly 1 belongs to the last bin. Empty bins are left out.

    Source: DeGroot and Fienberg 1983; Guo et al. 2017 (equal-width bins).
    """
    number = np.minimum((entities["score"].to_numpy() * n_bins).astype(int), n_bins - 1)
    grouped = entities.groupby(number)
    table = grouped.agg(probability=("score", "mean"), correct=("correct", "mean"), n=("correct", "size"))
    table.insert(0, "from", table.index / n_bins)
    table.insert(1, "to", (table.index + 1) / n_bins)
    return table.reset_index(drop=True)


def expected_calibration_error(entities: pd.DataFrame, n_bins: int = 10) -> float:
    """Mean distance of probability and share of correct entities over the bins, weighted by size; nan without entities.

    Source: Naeini et al. 2015; Guo et al. 2017.
    """
    table = reliability(entities, n_bins)
    if table.empty:
        return float("nan")
    return float(np.average((table["probability"] - table["correct"]).abs(), weights=table["n"]))


def brier_score(entities: pd.DataFrame) -> float:
    """Mean squared difference of probability and outcome (0 or 1); nan without entities. Source: Brier 1950."""
    return float(((entities["score"] - entities["correct"]) ** 2).mean())


def risk_coverage(entities: pd.DataFrame) -> pd.DataFrame:
    """What is left when the least certain entities go to a person: the share kept (coverage) and the share of it wrong.

    One row per distinct probability, the most certain first; entities of equal probability are kept or left together.

    Source: El-Yaniv and Wiener 2010.
    """
    ordered = entities.sort_values("score", ascending=False)
    kept = np.arange(1, len(ordered) + 1)
    wrong = (~ordered["correct"].to_numpy(dtype=bool)).cumsum()
    last = ~ordered["score"].duplicated(keep="last").to_numpy()
    table = pd.DataFrame({"threshold": ordered["score"].to_numpy(), "coverage": kept / max(len(ordered), 1),
                          "risk": wrong / kept})  # fmt: skip
    return table[last].reset_index(drop=True)


def area_under_risk(entities: pd.DataFrame) -> float:
    """Mean risk over all coverages (AURC; lower is better), each distinct probability weighted by its entities.

    Source: Geifman et al. 2019.
    """
    table = risk_coverage(entities)
    if table.empty:
        return float("nan")
    return float(np.average(table["risk"], weights=np.diff(table["coverage"], prepend=0)))
