"""Errors by kind, one bar per system."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nbutils.figures.style import caption_below, plain, system_styles, use_style
from nbutils.study.file import Study


def kinds(study: Study, counts: pd.DataFrame) -> Figure:
    """Errors per run by kind, one bar per system. Needs `errors.count_table`; kinds that nobody made are left out."""
    use_style()
    side = counts.index.name
    table = counts.drop(index="all")
    table = table[(table > 0).any(axis=1)]
    styles = {study.systems[name].title: style for name, style in system_styles(study).items()}
    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.16 * len(table) * max(len(table.columns), 1)))
    height = 0.8 / max(len(table.columns), 1)
    for k, system in enumerate(table.columns):
        colour, hatch = styles[system]
        y = np.arange(len(table)) - 0.4 + (k + 0.5) * height
        axes.barh(y, table[system], 0.92 * height, color=colour, hatch=hatch, edgecolor="white", label=plain(system))
    axes.set_yticks(range(len(table)), table.index)
    axes.invert_yaxis()
    axes.set_xlabel(f"{side}s per run (mean over runs)")
    axes.set_title(_commonest(table, side), loc="left")
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    caption_below(study, axes)
    return figure


def _commonest(table: pd.DataFrame, side: str) -> str:
    """The title: which kind is the commonest of how many systems."""
    if table.empty:
        return f"No {side}s"
    first = table.loc[:, (table > 0).any()].idxmax().value_counts()
    return f"Commonest kind of {side}: {first.index[0]} ({first.iloc[0]} of {len(table.columns)} systems)"
