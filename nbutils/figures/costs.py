"""Figures of cost: what each system's score costs in time, and our decoding beside the usual one."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nbutils.analysis.significance import FLOOR
from nbutils.figures.style import caption_without, legend_and_caption, marker, plain, system_styles, use_style
from nbutils.study.file import Study


def score_against_cost(study: Study, table: pd.DataFrame, cost: str) -> Figure:
    """F1 of every run against a cost, training beside inference. Needs `costs.cost_table`; a log scale of cost.

    Systems that find nothing, and those without such a cost, are named below and not drawn.
    """
    use_style()
    best = table.groupby("system")["mean F1 (%)"].max()
    nothing = set(best.index[best < FLOOR])
    without = set(best.index[table.groupby("system")[cost].max().reindex(best.index).fillna(0) <= 0]) - nothing
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for k, (name, (colour, _)) in enumerate(system_styles(study).items()):
        rows = table[(table["system"] == name) & (name not in nothing | without)]
        if len(rows):
            axes.scatter(rows[cost], rows["mean F1 (%)"], color=colour, marker=marker(k), s=60, edgecolor="black",
                         linewidth=0.4, label=plain(study.systems[name].title))  # fmt: skip
    axes.set(xscale="log", xlabel=cost, ylabel="exact F1, mean over evaluation corpora (%)", ylim=(-3, 103))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    drawn = best.drop(list(nothing | without))
    title = "F1 against cost" if drawn.empty else f"{plain(study.systems[drawn.idxmax()].title)} has the highest F1"
    axes.set_title(title, loc="left")
    legend_and_caption(figure, caption_without(study, {"F1 near 0": nothing, "no such cost": without}))
    return figure
