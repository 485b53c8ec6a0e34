"""The reliability and the risk-coverage curve of every system."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from nbutils.analysis.calibration import KEYS
from nbutils.figures.style import legend_and_caption, plain, system_styles, use_style
from nbutils.scoring.calibration import reliability, risk_coverage
from nbutils.study.file import Study


def figure(study: Study, entities: pd.DataFrame, n_bins: int = 10) -> Figure:
    """Above the reliability diagram, below risk against coverage; one column per setting. Needs `outcomes_of_runs`."""
    use_style()
    settings = study.pairings()
    drawn, panels = plt.subplots(
        2, len(settings), figsize=(3.1 * len(settings), 7), sharey="row", squeeze=False, layout="constrained"
    )
    present = set(entities["system"])
    for (above, below), (train, evaluate) in zip(panels.T, settings, strict=True):
        above.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--")
        for name, (colour, _) in system_styles(study).items():
            if name in present:
                rows = entities.query("system == @name and train == @train and evaluate == @evaluate")
                bins, curve = reliability(rows, n_bins), risk_coverage(rows)
                title = plain(study.systems[name].title)
                above.plot(bins["probability"], bins["correct"], "o-", color=colour, markersize=4, label=title)
                below.plot(curve["coverage"], curve["risk"], color=colour)
        above.set(title=f"{train} → {evaluate}", xlabel="probability", xlim=(0, 1.03), xticks=(0, 0.5, 1))
        below.set(xlabel="coverage (share kept)", xlim=(0, 1.03), xticks=(0, 0.5, 1))
    panels[0, 0].set(ylabel="share correct", ylim=(-0.03, 1.03))
    panels[1, 0].set(ylabel="risk (share wrong)", ylim=(-0.03, 1.03))
    drawn.suptitle(_finding(entities), x=0.01, ha="left")
    legend_and_caption(drawn, study.caption)
    return drawn


def _finding(entities: pd.DataFrame) -> str:
    if entities.empty:
        return "No system gives its entities a probability"
    means = entities.groupby(KEYS)[["score", "correct"]].mean()
    over = int((means["score"] > means["correct"]).sum())
    return f"More certain than right in {over} of {len(means)} settings, less in {len(means) - over}"
