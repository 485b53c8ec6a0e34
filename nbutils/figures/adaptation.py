"""What buys the loss back: F1 by annotated notes of the target, one panel per system."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nbutils.analysis.adaptation import BOTH, CURVES, ENDS, INSIDE, SOURCE, Half
from nbutils.figures.style import MARKERS, legend_and_caption, plain, system_styles, use_style, wrapped
from nbutils.study.file import Study

DASHES = ("-", ":", "--")  # of `CURVES`
A_ROW = 3  # panels


def curves(study: Study, table: pd.DataFrame, found: list[Half]) -> Figure:
    """F1 by notes, the way of the sentence with its 95 % band, three panels a row. Needs `curve_table` and `halves`."""
    use_style()
    titles = list(dict.fromkeys(table.index.get_level_values("system")))
    rows, columns = -(-len(titles) // A_ROW), min(len(titles), A_ROW)
    figure, panels = plt.subplots(rows, columns, figsize=(5.2 * columns, 4.5 * rows), sharey=True, squeeze=False)
    colours = {study.systems[name].title: style[0] for name, style in system_styles(study).items()}
    for empty in panels.flat[len(titles) :]:
        figure.delaxes(empty)
    for axes, title in zip(panels.flat, titles, strict=False):
        _panel(axes, table.loc[title], colours[title])
        at = next(h for h in found if (h.system, h.way) == (title, BOTH))
        half = f"{at.notes:.0f} notes ({at.range(1, 0)})" if at.notes < float("inf") else f"not within {at.most} notes"
        axes.set_title(f"{wrapped(title, 38)}\nhalf of the loss: {half}", loc="left", fontsize=11)
        axes.set_xlabel(f"annotated notes of {plain(study.adapt.target)}")
    panels[0][0].set(ylim=(0, 100))
    for axes in panels[:, 0]:
        axes.set_ylabel("micro F1, exact spans (%)")
    figure.tight_layout()
    legend_and_caption(figure, study.caption)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    before, inside = (rows.loc[(way, 0), "F1 (%)"] for way in (SOURCE, INSIDE))
    axes.axhline(inside, color="black", linewidth=1, label="in-domain, on the source's own test part")
    axes.axhline((before + inside) / 2, color="0.5", linewidth=1, linestyle=(0, (1, 3)), label="half of the loss")
    for k, (way, dash) in enumerate(zip(CURVES, DASHES, strict=True)):
        if way in rows.index.get_level_values("way"):
            some = rows.loc[way]
            if way != CURVES[1]:  # all but the target's notes alone begin with the source's
                some = pd.concat([rows.loc[SOURCE], some])
            axes.plot(some.index, some["F1 (%)"], dash, marker=MARKERS[k], color=colour, label=way)
            if way == BOTH:
                axes.fill_between(some.index, *(some[end] for end in ENDS), color=colour, alpha=0.2, linewidth=0)
    for k, way in enumerate(w for w in rows.index.get_level_values("way").unique() if w.startswith("no labels")):
        row = rows.loc[(way, 0)]
        axes.plot([-1 - k], row["F1 (%)"], MARKERS[3 + k], color="white", markeredgecolor=colour, label=way)
