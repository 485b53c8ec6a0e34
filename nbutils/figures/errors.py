"""Errors by kind, one bar per system."""

from __future__ import annotations

from collections.abc import Collection

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nbutils.figures.style import caption_without, legend_and_caption, plain, system_styles, use_style
from nbutils.study.file import Study


def kinds(study: Study, counts: pd.DataFrame, nothing: Collection[str] = ()) -> Figure:
    """Errors per run by kind, one bar per system. Needs `errors.count_table`; kinds that nobody made are left out.

    Systems of `nothing` (`significance.at_floor`) are named below the figure and not drawn.
    """
    use_style()
    side = counts.index.name
    hidden = {study.systems[name].title for name in nothing}
    table = counts.drop(index="all").drop(columns=[title for title in counts.columns if title in hidden])
    table = table[(table > 0).any(axis=1)]
    styles = {study.systems[name].title: style for name, style in system_styles(study).items()}
    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.2 * len(table) * max(len(table.columns), 1)), layout="constrained")
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
    legend_and_caption(figure, caption_without(study, {"F1 near 0": nothing}))
    return figure


def _commonest(table: pd.DataFrame, side: str) -> str:
    """The title: which kind is the commonest of how many systems."""
    if table.empty:
        return f"No {side}s"
    first = table.loc[:, (table > 0).any()].idxmax().value_counts()
    if len(first) == len(table.columns) > 1:
        return f"The commonest kind of {side} is another one for every system"
    return f"Commonest kind of {side}: {first.index[0]} ({first.iloc[0]} of {len(table.columns)} systems)"
