"""Figures of cost: what each system's score costs in time, and our decoding beside the usual one."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from nbutils.figures.style import MARKERS, system_styles, use_style
from nbutils.study.file import Study


def score_against_cost(study: Study, table: pd.DataFrame, cost: str) -> Figure:
    """F1 of every run against a cost, training beside inference. Needs `costs.cost_table`; a log scale of cost."""
    use_style()
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for k, (name, (colour, _)) in enumerate(system_styles(study).items()):
        mine = table[table["system"] == name]
        axes.scatter(mine[cost], mine["mean F1 (%)"], color=colour, marker=MARKERS[k % len(MARKERS)], s=60,
                     edgecolor="black", linewidth=0.4, label=study.systems[name].title)  # fmt: skip
    best = table.sort_values("mean F1 (%)").iloc[-1] if len(table) else None
    title = "F1 against cost" if best is None else f"{study.systems[best['system']].title} has the highest F1"
    axes.set(xscale="log", xlabel=cost, ylabel="exact F1, mean over evaluation corpora (%)", ylim=(-3, 103))
    axes.set_title(title, loc="left")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure
